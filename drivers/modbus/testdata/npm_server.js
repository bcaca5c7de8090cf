// A server of Modbus: npm_server.js modbus-serial|jsmodbus tcp|rtu PORT|DEVICE
//
// That of jsmodbus on a line answers every unit.
//
// The registers are those of pymodbus_server.py's unit 1; from 120 on there are values
// that Node's Buffer has written, in each order (see npmValues in peersnpm_test.go).
"use strict";
const net = require("net");

const [, , name, kind, place] = process.argv;
const N = 200;

const bits = (f) => Buffer.from(Array.from({ length: N }, (_, i) => Number(f(i))));
const words = (f) => {
  const b = Buffer.alloc(2 * N);
  for (let i = 0; i < N; i++) b.writeUInt16BE(f(i), 2 * i);
  return b;
};
const coils = bits((i) => i % 3 === 0);
const discrete = bits((i) => i % 2 === 0);
const holding = words((i) => 7 * i + 1);
const input = words((i) => 5 * i + 3);

const reversed = (b) => Buffer.from(b).reverse();
const swapped = (b) => Buffer.from(b).swap16();
let at = 120;
for (const order of [(b) => b, (b) => swapped(reversed(b)), swapped, reversed]) {
  const f32 = Buffer.alloc(4), i32 = Buffer.alloc(4), f64 = Buffer.alloc(8), i64 = Buffer.alloc(8), u64 = Buffer.alloc(8);
  f32.writeFloatBE(21.3);
  i32.writeInt32BE(-123456789);
  f64.writeDoubleBE(-0.1);
  i64.writeBigInt64BE(-1234567890123456789n);
  u64.writeBigUInt64BE(18446744073709551614n);
  for (const b of [f32, i32, f64, i64, u64]) {
    order(b).copy(holding, 2 * at);
    at += b.length / 2;
  }
}

function modbusSerial() {
  const { ServerTCP, ServerSerial } = require("modbus-serial");
  const within = (f) => (i, ...rest) => {
    if (i >= N) throw Object.assign(new Error("there is none"), { modbusErrorCode: 2 });
    return f(i, ...rest);
  };
  const vector = {
    getCoil: within((i) => coils[i] === 1), getDiscreteInput: within((i) => discrete[i] === 1),
    getInputRegister: within((i) => input.readUInt16BE(2 * i)), getHoldingRegister: within((i) => holding.readUInt16BE(2 * i)),
    setCoil: within((i, v) => { coils[i] = Number(v); }), setRegister: within((i, v) => { holding.writeUInt16BE(v & 0xffff, 2 * i); }),
  };
  if (kind === "rtu") {
    new ServerSerial(vector, { port: place, path: place, baudRate: 115200, unitID: 1 });
  } else {
    new ServerTCP(vector, { host: "127.0.0.1", port: Number(place), unitID: 1 });
  }
}

function jsmodbus() {
  const { server } = require("jsmodbus");
  const packed = (b) => {
    const out = Buffer.alloc(N / 8);
    b.forEach((v, i) => { out[i >> 3] |= v << (i & 7); });
    return out;
  };
  const registers = { coils: packed(coils), discrete: packed(discrete), holding, input };
  if (kind === "rtu") {
    const { SerialPort } = require("serialport");
    new server.RTU(new SerialPort({ path: place, baudRate: 115200 }), registers);
    return;
  }
  const listener = new net.Server();
  new server.TCP(listener, registers);
  listener.listen(Number(place), "127.0.0.1");
}

({ "modbus-serial": modbusSerial, jsmodbus })[name]();
