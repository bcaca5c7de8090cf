// Package modbus is the driver of Modbus equipment: over TCP, with or without TLS, and
// over lines in RTU or ASCII mode, which are serial ports or streams to serial device
// servers. Its first law is that a point never shows another register's value: where
// the answer cannot be told from a stale one, there is no reading.
//
// Its words are those of the Modbus Application Protocol V1.1b3: coil, discrete
// input, input register, holding register, unit identifier, function code,
// exception code, PDU, ADU.
//
//	driver: modbus
//	tcp: 192.168.1.20:502     # or tls, rtu_tcp, ascii_tcp, serial: {port: /dev/ttyUSB0, baud: 9600}
//	unit: 1
//	timeout: 1s
//	every: 1s
//	points:
//	  temperature: {input: 0, type: int16, scale: 0.1, unit: "°C"}
//	  fan:         {coil: 3, writable: true}
//	  total:       {holding: 100, type: float32, order: CDAB}
//
// A point names exactly one of coil, discrete, input and holding, with the address
// that travels on the wire (0 to 65535; the register that a manual calls 40001 is
// holding: 0). Type is uint16 if absent, any other of typeNames, or a few bits of one
// (bit, bits); a coil and a discrete input are bool. Order is the order in which the
// bytes of the value come over the wire, A being the most significant: AB and BA for 16
// bits, ABCD, CDAB, BADC, DCBA and any other for 32, and so on up to 64. A reading is
// the register times scale plus offset, exactly: 2153 with scale 0.1 is 215.3; the
// power of ten may come from another register (scale_from). Registers that say that
// there is no value (NaN, no_value) are null; those that are no value of the type are a
// bad reading. What is written goes the same way back; an integer or decimal that falls
// between two steps is refused, a float goes to the nearest step if only its own
// rounding separates it from there.
//
// # The way of a reading
//
// The Host calls Read with the points that are due. The device coalesces them into
// blocks by cost and asks for one block after the other. The blocks of all devices
// on one line go through its bus, which alone owns the wire: one transaction at a
// time, devices in turn, writes first. Devices whose address (the serial port, or host
// and port) is the same share a bus; the last one to close closes it.
//
// On an RTU line an answer carries nothing that tells which request it belongs to.
// So each block of a unit and function code has a length of its own: a block whose
// length is taken reads a register or a few bits more. Where the device refuses
// those, too, the block waits until no stale answer can be under way, or on a line
// without trouble reads and then listens whether a second answer follows. Frames
// that are not the answer by unit, function code, byte count and CRC are skipped.
// After anything odd the line counts as wary for three time-outs. An exception that is
// new must come twice, since it shows even less what it answers.
//
// A block that the device refuses, or keeps silent about while it answers for others,
// is split until the address to blame stands alone; that is remembered for ten
// minutes, or until the device gives it again, but for 30 s at least, or until the
// device was away. A refused point has Quality Bad and an [Exception] as its Err; a
// point that the device keeps silent about has no reading and is asked for once a
// minute. A unit that does not answer at all is asked again after a back-off of 1 s to
// 30 s, longer beside others, and costs the line one time-out each: what was learnt of
// its latency, at most what is configured. A write is never sent twice. On a
// line its answer shows where it went, not when: while the answer to an equal write may
// come, late or once more, the next one waits, and after trouble a second answer is
// listened for. What an answer leaves open is drivers.ErrUncertain.
//
// [Client] asks what a person or another program wants to know, by the rules of the
// same bus. It chooses the lengths of its answers itself, so after anything odd it
// waits until no stale answer is under way.
//
// What nothing can tell apart: a frame with a good CRC that is no answer to anything
// that was asked, if it happens to fit the request under way.
//
// # The simulator
//
// [Driver.Simulator] is the driver "modbus-simulator": a Modbus TCP server on a
// loopback address. Its points are the registers that it serves, in the same words,
// each with an initial value and perhaps a formula, which is evaluated whenever the
// point is due. The formula sees t (seconds since the start), dt (seconds since its
// last evaluation), value (its own value, not rounded to the register's step) and
// the other points by name, with _ in place of what a variable's name cannot have.
//
//	driver: modbus-simulator
//	listen: 127.0.0.1:5020
//	unit: 1
//	points:
//	  temperature: {input: 0, type: int16, scale: 0.1, formula: "fan ? max(value - 0.4*dt, 20) : value + 0.2*dt"}
//	  fan:         {coil: 3, writable: true}
//
// # Servers
//
// [Driver.Server] is the driver "modbus-server", which shows topics as registers, and
// [Driver.Gateway] the driver "modbus-gateway", by which foreign clients reach the units
// of a line through its bus. docs/devices.md describes their files.
package modbus
