"""A Modbus server made of pymodbus: coils and registers 0-99 of unit 1, all writable.

usage: modbus_server.py tcp PORT | rtu PORT

Input register N holds N * 10. Prints "ready" before it serves, and "TABLE ADDRESS VALUES" for each write.
"""
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.transaction import ModbusRtuFramer


class Told(ModbusSequentialDataBlock):
    """A block that says what is written to it."""

    def __init__(self, name, values):
        self.name = name
        super().__init__(0, values)

    def setValues(self, address, values):
        super().setValues(address, values)
        print(self.name, address, values, flush=True)


unit = ModbusSlaveContext(
    co=Told("coil", [0] * 100),
    di=ModbusSequentialDataBlock(0, [0] * 100),
    hr=Told("holding", [0] * 100),
    ir=ModbusSequentialDataBlock(0, [n * 10 for n in range(100)]),
    zero_mode=True,
)
context = ModbusServerContext(slaves={1: unit}, single=False)
print("ready", flush=True)
if sys.argv[1] == "tcp":
    StartTcpServer(context=context, address=("127.0.0.1", int(sys.argv[2])))
else:
    StartSerialServer(context=context, framer=ModbusRtuFramer, port=sys.argv[2], baudrate=115200, timeout=0.005)
