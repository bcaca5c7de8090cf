/* A libmodbus TCP client: libmodbus_client PORT
 *
 * It reads lines "REGISTERS MILLISECONDS" and answers each with the reads that it did
 * in that time and the nanoseconds that they took. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        return 2;
    }
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    if (ctx == NULL || modbus_set_slave(ctx, 1) == -1 || modbus_connect(ctx) == -1) {
        fprintf(stderr, "cannot connect: %s\n", modbus_strerror(errno));
        return 1;
    }
    int count, ms;
    while (scanf("%d %d", &count, &ms) == 2) {
        uint16_t registers[MODBUS_MAX_READ_REGISTERS];
        long long start = now(), end = start;
        long reads = 0;
        while (end - start < ms * 1000000LL) {
            if (modbus_read_registers(ctx, 0, count, registers) != count || registers[count - 1] != 7 * (count - 1) + 1) {
                fprintf(stderr, "cannot read: %s\n", modbus_strerror(errno));
                return 1;
            }
            reads++;
            end = now();
        }
        printf("%ld %lld\n", reads, end - start);
        fflush(stdout);
    }
    return 0;
}
