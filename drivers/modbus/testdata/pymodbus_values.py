"""Values as pymodbus puts them into registers: one a line, as
keys of the point | bytes on the wire | value as JSON"""

import datetime
import json
import random

from pymodbus.constants import Endian
from pymodbus.payload import BinaryPayloadBuilder

random.seed(1)


def orders(size):
    """The four orders that pymodbus has, and their letters."""
    for words in (Endian.Big, Endian.Little):
        for byte in (Endian.Big, Endian.Little):
            pairs = ["ABCDEFGH"[i : i + 2] for i in range(0, size, 2)]
            if words == Endian.Little:
                pairs.reverse()
            if byte == Endian.Little:
                pairs = [p[::-1] for p in pairs]
            yield "".join(pairs), byte, words


def show(keys, builder, value):
    print(keys, builder.to_string().hex(), json.dumps(value), sep="|")


def numbers(bits):
    """Integers that are unlike, signed and unsigned."""
    top = 1 << (bits - 1)
    yield f"int{bits}", [-top, top - 1, -1, 0, 1] + [random.randrange(-top, top) for _ in range(3)]
    yield f"uint{bits}", [0, 1, top, 2 * top - 1] + [random.randrange(2 * top) for _ in range(3)]


for bits in (16, 32, 64):
    for kind, values in numbers(bits):
        for order, byte, words in orders(bits // 8):
            for value in values:
                b = BinaryPayloadBuilder(byteorder=byte, wordorder=words)
                getattr(b, f"add_{bits}bit_{'u' if kind[0] == 'u' else ''}int")(value)
                show(f"type: {kind}, order: {order}", b, value)
    # Numbers that have the same shortest decimal in 16, 32 and 64 bits.
    for value in (21.3, -0.5, 1.0, 6.104e-05, 65500, 1e-3 if bits > 16 else 0.25):
        for order, byte, words in orders(bits // 8):
            b = BinaryPayloadBuilder(byteorder=byte, wordorder=words)
            getattr(b, f"add_{bits}bit_float")(value)
            show(f"type: float{bits}, order: {order}", b, value)

for high, low in ((-128, 127), (-1, 0), (5, -5)):
    for kind in ("int8h", "int8l"):
        b = BinaryPayloadBuilder(byteorder=Endian.Big)
        b.add_8bit_int(high)
        b.add_8bit_int(low)
        show(f"type: {kind}", b, high if kind[-1] == "h" else low)
b = BinaryPayloadBuilder(byteorder=Endian.Big)
b.add_8bit_uint(254)
b.add_8bit_uint(3)
show("type: uint8h", b, 254)
show("type: uint8l", b, 3)

for word in (0x8001, 0x0A50):
    for bit in (0, 3, 6, 15):
        b = BinaryPayloadBuilder(byteorder=Endian.Big)
        b.add_16bit_uint(word)
        show(f"bit: {bit}", b, bool(word >> bit & 1))

for text in ("ABC", "Gatehouse 7", ""):
    b = BinaryPayloadBuilder(byteorder=Endian.Big)
    b.add_string(text.ljust(12, "\0"))
    show("length: 6", b, text)
    b = BinaryPayloadBuilder(byteorder=Endian.Big)
    b.add_string(text.ljust(12))
    show("length: 6, padding: blank", b, text)


# What pymodbus has no builder for, by Python itself: the bytes of the registers, put
# into each order by pymodbus's own letters.
class Plain:
    """Bytes in the place of a builder."""

    def __init__(self, raw, order):
        self.raw = bytes(raw["ABCDEFGH".index(letter)] for letter in order)

    def to_string(self):
        return self.raw


def everywhere(kind, raw, value):
    for order, _, _ in orders(len(raw)):
        show(f"type: {kind}" + (f", order: {order}" if len(raw) > 2 else ""), Plain(raw, order if len(raw) > 2 else "AB"), value)


for value in (-(1 << 47), (1 << 47) - 1, -2, 0x010203040506):
    everywhere("int48", value.to_bytes(6, "big", signed=True), value)
for value in (0, (1 << 48) - 1, 0x010203040506):
    everywhere("uint48", value.to_bytes(6, "big"), value)
for size in (2, 4, 6, 8):
    for value in (0, 10 ** (2 * size) - 1, random.randrange(10 ** (2 * size))):
        everywhere(f"bcd{8 * size}", bytes.fromhex(str(value).zfill(2 * size)), value)
        if size > 2:
            digits = str(value % 10 ** (2 * size)).zfill(2 * size)
            groups = [int(digits[i : i + 4]).to_bytes(2, "big") for i in range(0, 2 * size, 4)]
            everywhere(f"mod10k{8 * size}", b"".join(groups), value)

for at in (
    datetime.datetime(2026, 11, 26, 4, 30, 31, tzinfo=datetime.timezone.utc),
    datetime.datetime(2000, 2, 29, 23, 59, 59, tzinfo=datetime.timezone.utc),
    datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc),
):
    text, seconds = at.strftime("%Y-%m-%dT%H:%M:%SZ"), int(at.timestamp())
    everywhere("unix32", seconds.to_bytes(4, "big"), text)
    everywhere("unix64", seconds.to_bytes(8, "big", signed=True), text)
    everywhere("unix64ms", (seconds * 1000).to_bytes(8, "big", signed=True), text)
    # CP56Time2a, IEC 60870-5-4 6.8: its seven octets from the end of eight bytes on.
    cp56 = (at.second * 1000).to_bytes(2, "little")
    cp56 += bytes([at.minute, at.hour, at.day | at.isoweekday() << 5, at.month, at.year - 2000])
    everywhere("cp56time2a", bytes(1) + cp56[::-1], text)
    whole = [at.year, at.month, at.day, at.hour, at.minute, at.second]
    b = BinaryPayloadBuilder(byteorder=Endian.Big)
    for n in whole:
        b.add_16bit_uint(n)
    show("type: datetime", b, text)
