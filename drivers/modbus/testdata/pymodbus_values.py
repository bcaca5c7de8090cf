"""Values as pymodbus puts them into registers: one a line, as
keys of the point | bytes on the wire | value as JSON"""

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
