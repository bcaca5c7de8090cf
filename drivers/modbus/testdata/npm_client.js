// A client of a Modbus server: npm_client.js modbus-serial|jsmodbus tcp|rtu PORT, or line DEVICE
//
// It does each function that the package knows on the registers of shopPoints (see
// server_test.go), and prints "all right".
"use strict";
const assert = require("assert");
const net = require("net");

const [, , name, frames, port] = process.argv;

async function modbusSerial() {
  const ModbusRTU = require("modbus-serial");
  const c = new ModbusRTU();
  if (frames === "line") {
    await c.connectRTUBuffered(port, { baudRate: 115200 });
  } else {
    const connect = frames === "rtu" ? c.connectTelnet : c.connectTCP;
    await connect.call(c, "127.0.0.1", { port: Number(port) });
  }
  c.setID(1);
  c.setTimeout(10000);
  const coils = async (at, n) => (await c.readCoils(at, n)).data.slice(0, n);
  const holding = async (at, n) => (await c.readHoldingRegisters(at, n)).data;
  return {
    coils, holding,
    discrete: async (at, n) => (await c.readDiscreteInputs(at, n)).data.slice(0, n),
    input: async (at, n) => (await c.readInputRegisters(at, n)).data,
    writeCoil: (at, v) => c.writeCoil(at, v), writeRegister: (at, v) => c.writeRegister(at, v),
    writeCoils: (at, v) => c.writeCoils(at, v), writeRegisters: (at, v) => c.writeRegisters(at, v),
    code: (e) => e.modbusCode,
    more: async () => {
      if (frames !== "tcp") return; // it cannot tell where those answers end in a stream
      await c.maskWriteRegister(4, 0xff00, 0x0012);
      assert.deepStrictEqual(await holding(4, 1), [0x1012]);
      const id = await c.readDeviceIdentification(1, 0);
      assert.deepStrictEqual(Object.values(id.data).map(String), ["Gatehouse", "modbus-server", "1"]);
    },
    close: () => new Promise((done) => c.close(done)),
  };
}

async function jsmodbus() {
  const { client } = require("jsmodbus");
  let c, close;
  if (frames === "line") {
    const { SerialPort } = require("serialport");
    const line = new SerialPort({ path: port, baudRate: 115200, autoOpen: false });
    c = new client.RTU(line, 1, 10000);
    await new Promise((done, failed) => line.open((e) => (e ? failed(e) : done())));
    close = () => new Promise((done) => line.close(done));
  } else {
    const socket = new net.Socket();
    c = new client.TCP(socket, 1, 10000);
    await new Promise((done) => { socket.on("connect", done); socket.connect({ host: "127.0.0.1", port: Number(port) }); });
    close = async () => socket.destroy();
  }
  const bits = (r, n) => r.response.body.valuesAsArray.slice(0, n).map(Boolean);
  const words = (r) => Array.from(r.response.body.valuesAsArray);
  return {
    coils: async (at, n) => bits(await c.readCoils(at, n), n),
    discrete: async (at, n) => bits(await c.readDiscreteInputs(at, n), n),
    holding: async (at, n) => words(await c.readHoldingRegisters(at, n)),
    input: async (at, n) => words(await c.readInputRegisters(at, n)),
    writeCoil: (at, v) => c.writeSingleCoil(at, v), writeRegister: (at, v) => c.writeSingleRegister(at, v),
    writeCoils: (at, v) => c.writeMultipleCoils(at, v), writeRegisters: (at, v) => c.writeMultipleRegisters(at, v),
    code: (e) => e.response.body.code,
    more: async () => {
      const id = await c.readDeviceIdentification(1, 0);
      assert.deepStrictEqual(id.response.body._objects.map((o) => String(o.value)), ["Gatehouse", "modbus-server", "1"]);
    },
    close,
  };
}

async function main() {
  const c = await { "modbus-serial": modbusSerial, jsmodbus }[name]();
  assert.deepStrictEqual(await c.coils(3, 3), [false, false, true]);
  assert.deepStrictEqual(await c.discrete(1, 1), [true]);
  assert.deepStrictEqual(await c.input(0, 1), [65321]);
  assert.deepStrictEqual(await c.holding(4, 1), [1234]);
  assert.deepStrictEqual(await c.holding(100, 2), [0, 0x41ac]);
  await c.writeCoil(3, true);
  assert.deepStrictEqual(await c.coils(3, 3), [true, false, true]);
  await c.writeCoils(3, [false, true, true]);
  assert.deepStrictEqual(await c.coils(3, 3), [false, true, true]);
  await c.writeRegister(4, 0x1000);
  assert.deepStrictEqual(await c.holding(4, 1), [0x1000]);
  await c.writeRegisters(100, [0, 0xc1ac]);
  assert.deepStrictEqual(await c.holding(100, 2), [0, 0xc1ac]);
  await c.more();
  for (const [what, code] of [
    [() => c.holding(999, 1), 2], [() => c.writeRegister(100, 1), 3], [() => c.writeRegister(4, 9999), 3], [() => c.holding(200, 1), 4],
  ]) {
    await assert.rejects(what, (e) => { assert.strictEqual(c.code(e), code); return true; });
  }
  await c.close();
  console.log("all right");
}

main().then(() => process.exit(0), (e) => { console.error(e); process.exit(1); });
