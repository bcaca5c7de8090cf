"""Two binary sensors on one line, by pyserial: sensor.py PORT."""
import struct
import sys

import serial


def crc(b):
    c = 0xFFFF
    for x in b:
        c ^= x
        for _ in range(8):
            c = (c >> 1) ^ 0xA001 if c & 1 else c >> 1
    return struct.pack("<H", c)


port = serial.Serial(sys.argv[1], 115200)
held = {1: 200, 2: -50}
print("ready", flush=True)
while True:
    head = port.read(2)
    rest = port.read(head[1])
    body = head + rest
    if head[0] != 0x7E or crc(body[:-2]) != body[-2:]:
        sys.exit("wrong request: %r" % body)
    address, command = rest[0], rest[1]
    if address not in held:
        continue
    if command == 6:
        held[address] = struct.unpack(">h", rest[2:4])[0]
    answer = b"\x7e\x05" + bytes([address]) + struct.pack(">h", held[address])
    port.write(b"\x00\xff" + answer + crc(answer))  # noise before each
