"""A pymodbus server:

pymodbus_server.py tcp|rtu_tcp|ascii_tcp PORT
pymodbus_server.py rtu|ascii DEVICE
pymodbus_server.py tls PORT CERTIFICATE KEY CA

Units 1 and 2. At address i: coil i % 3 == 0, discrete input i % 2 == 0, holding
register 7 * i + unit, input register 5 * i + 3; 200 of each. Another unit is silent.
"""

import logging
import ssl
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.device import ModbusDeviceIdentification
from pymodbus.server import StartSerialServer, StartTcpServer, StartTlsServer
from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer

N = 200


def unit(number):
    return ModbusSlaveContext(
        co=ModbusSequentialDataBlock(0, [i % 3 == 0 for i in range(N)]),
        di=ModbusSequentialDataBlock(0, [i % 2 == 0 for i in range(N)]),
        hr=ModbusSequentialDataBlock(0, [7 * i + number for i in range(N)]),
        ir=ModbusSequentialDataBlock(0, [5 * i + 3 for i in range(N)]),
        zero_mode=True,
    )


class Tls(ModbusSocketFramer):
    """The MBAP header behind TLS, as the standard has it; pymodbus's own framer has none."""


def secure(certificate, key, ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


logging.disable(logging.CRITICAL)
context = ModbusServerContext(slaves={1: unit(1), 2: unit(2)}, single=False)
identity = ModbusDeviceIdentification(
    info_name={
        "VendorName": "Pymodbus",
        "ProductCode": "PM",
        "VendorUrl": "http://example.com/" + 100 * "u",
        "ProductName": "Peer " + 90 * "p",
        "ModelName": "Server",
        "MajorMinorRevision": "3.0",
    }
)
kind, where = sys.argv[1], sys.argv[2]
common = {"context": context, "identity": identity, "ignore_missing_slaves": True}
framer = ModbusAsciiFramer if "ascii" in kind else ModbusRtuFramer if "rtu" in kind else ModbusSocketFramer
if kind == "tls":
    StartTlsServer(address=("127.0.0.1", int(where)), framer=Tls, sslctx=secure(*sys.argv[3:6]), **common)
elif kind.endswith("tcp"):
    StartTcpServer(address=("127.0.0.1", int(where)), framer=framer, **common)
else:
    StartSerialServer(framer=framer, port=where, baudrate=115200, timeout=0.01, **common)
