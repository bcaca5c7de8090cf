/* A libmodbus server: libmodbus_server PORT, or libmodbus_server rtu DEVICE
 *
 * The registers are those of pymodbus_server.py's unit 1. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { N = 200 };

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) {
        return 2;
    }
    int line = argc == 3;
    modbus_t *ctx = line ? modbus_new_rtu(argv[2], 115200, 'N', 8, 1) : modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    modbus_mapping_t *map = modbus_mapping_new(N, N, N, N);
    if (ctx == NULL || map == NULL) {
        return 1;
    }
    for (int i = 0; i < N; i++) {
        map->tab_bits[i] = i % 3 == 0;
        map->tab_input_bits[i] = i % 2 == 0;
        map->tab_registers[i] = 7 * i + 1;
        map->tab_input_registers[i] = 5 * i + 3;
    }
    if (line) {
        if (modbus_set_slave(ctx, 1) == -1 || modbus_connect(ctx) == -1) {
            fprintf(stderr, "cannot open: %s\n", modbus_strerror(errno));
            return 1;
        }
        for (;;) { /* what is not for this unit gives 0, what is no frame -1 */
            uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
            int n = modbus_receive(ctx, query);
            if (n > 0) {
                modbus_reply(ctx, query, n, map);
            }
        }
    }
    int listening = modbus_tcp_listen(ctx, 4);
    if (listening == -1) {
        fprintf(stderr, "cannot listen: %s\n", modbus_strerror(errno));
        return 1;
    }
    while (modbus_tcp_accept(ctx, &listening) != -1) {
        uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
        int n;
        while ((n = modbus_receive(ctx, query)) != -1) {
            if (n > 0) {
                modbus_reply(ctx, query, n, map);
            }
        }
        modbus_close(ctx);
    }
    return 0;
}
