"""A pymodbus server: pymodbus_server.py tcp PORT | pymodbus_server.py rtu DEVICE

Units 1 and 2. At address i: coil i % 3 == 0, discrete input i % 2 == 0, holding
register 7 * i + unit, input register 5 * i + 3; 200 of each. Another unit is silent.
"""

import logging
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

N = 200


def unit(number):
    return ModbusSlaveContext(
        co=ModbusSequentialDataBlock(0, [i % 3 == 0 for i in range(N)]),
        di=ModbusSequentialDataBlock(0, [i % 2 == 0 for i in range(N)]),
        hr=ModbusSequentialDataBlock(0, [7 * i + number for i in range(N)]),
        ir=ModbusSequentialDataBlock(0, [5 * i + 3 for i in range(N)]),
        zero_mode=True,
    )


logging.disable(logging.CRITICAL)
context = ModbusServerContext(slaves={1: unit(1), 2: unit(2)}, single=False)
if sys.argv[1] == "tcp":
    StartTcpServer(
        context=context,
        framer=ModbusSocketFramer,
        address=("127.0.0.1", int(sys.argv[2])),
        ignore_missing_slaves=True,
    )
else:
    StartSerialServer(
        context=context,
        framer=ModbusRtuFramer,
        port=sys.argv[2],
        baudrate=115200,
        timeout=0.01,
        ignore_missing_slaves=True,
    )
