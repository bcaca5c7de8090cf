"""A pymodbus client: pymodbus_client.py tcp|rtu|ascii PORT | tls PORT CERTIFICATE KEY CA

It does each function on the registers of shopPoints (see server_test.go), and prints
"all right".
"""

import ssl
import sys

from pymodbus.client import ModbusTcpClient, ModbusTlsClient
from pymodbus.mei_message import ReadDeviceInformationRequest
from pymodbus.register_write_message import MaskWriteRegisterRequest
from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer



class Tls(ModbusTlsClient):
    """pymodbus waits for the socket to be readable, though TLS may have the bytes already."""

    def recv(self, size):
        self.socket.settimeout(60)
        data = b""
        while not data or size and len(data) < size:
            more = self.socket.recv(size - len(data) if size else 4096)
            assert more, "the server has closed the connection"
            data += more
        return data


kind, port = sys.argv[1], int(sys.argv[2])
if kind == "tls":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    context.load_verify_locations(sys.argv[5])
    # The header is that of Modbus TCP: pymodbus's own framer for TLS has none.
    client = Tls("127.0.0.1", port=port, framer=ModbusSocketFramer, sslctx=context, timeout=10)
else:
    framer = {"tcp": ModbusSocketFramer, "rtu": ModbusRtuFramer, "ascii": ModbusAsciiFramer}[kind]
    client = ModbusTcpClient("127.0.0.1", port=port, framer=framer, timeout=10)
assert client.connect()


def good(answer):
    assert not answer.isError(), answer
    return answer


def code(answer):
    return answer.exception_code


assert good(client.read_coils(3, 3, 1)).bits[:3] == [False, False, True]
assert good(client.read_discrete_inputs(1, 1, 1)).bits[:1] == [True]
assert good(client.read_input_registers(0, 1, 1)).registers == [65321]
assert good(client.read_holding_registers(4, 1, 1)).registers == [1234]
assert code(client.read_holding_registers(200, 1, 1)) == 4
if len(sys.argv) > 6 and sys.argv[6] == "read":
    assert code(client.write_coil(3, True, 1)) == 1
    print("all right")
    sys.exit(0)
good(client.write_coil(3, True, 1))
good(client.write_coils(4, [True, False], 1))
assert good(client.read_coils(3, 3, 1)).bits[:3] == [True, True, False]
good(client.write_register(4, 0x1000, 1))
assert good(client.read_holding_registers(4, 1, 1)).registers == [0x1000]
good(client.write_registers(100, [0, 0xC1AC], 1))
assert good(client.read_holding_registers(100, 2, 1)).registers == [0, 0xC1AC]
good(client.execute(MaskWriteRegisterRequest(4, 0xFF00, 0x0012, unit=1)))
both = good(
    client.readwrite_registers(
        read_address=4, read_count=1, write_address=100, write_registers=[0, 0x41AC], unit=1
    )
)
assert both.registers == [0x1012], both.registers
assert good(client.read_holding_registers(100, 2, 1)).registers == [0, 0x41AC]
identity = good(client.execute(ReadDeviceInformationRequest(1, 0, unit=1))).information
assert identity == {0: b"Gatehouse", 1: b"modbus-server", 2: b"1"}, identity
assert code(client.read_holding_registers(999, 1, 1)) == 2
assert code(client.write_register(100, 1, 1)) == 3
assert code(client.write_register(4, 9999, 1)) == 3
print("all right")
