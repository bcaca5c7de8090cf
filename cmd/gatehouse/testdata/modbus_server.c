/* A Modbus TCP server made of libmodbus: 100 of each table, unit 1.
 * usage: modbus_server PORT. Input register N holds N * 10.
 * Prints "ready", and "coil ADDRESS VALUE" after each request that changed a coil. */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 100

int main(int argc, char **argv) {
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH], before[SIZE];
    modbus_t *ctx = argc == 2 ? modbus_new_tcp("127.0.0.1", atoi(argv[1])) : NULL;
    modbus_mapping_t *map = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    int listener = ctx ? modbus_tcp_listen(ctx, 4) : -1;
    if (!map || listener < 0) return 1;
    for (int i = 0; i < SIZE; i++) map->tab_input_registers[i] = i * 10;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    for (;;) {
        int n;
        if (modbus_tcp_accept(ctx, &listener) < 0) return 1;
        while ((n = modbus_receive(ctx, request)) >= 0) {
            memcpy(before, map->tab_bits, SIZE);
            if (modbus_reply(ctx, request, n, map) < 0) break;
            for (int i = 0; i < SIZE; i++)
                if (before[i] != map->tab_bits[i]) printf("coil %d %d\n", i, map->tab_bits[i]);
        }
        modbus_close(ctx);
    }
}
