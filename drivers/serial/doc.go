// Package serial is a driver for equipment that speaks lines of text over a serial
// port, and the opener of serial ports for others.
//
//	driver: serial
//	topic: home/hall
//	port: /dev/serial/by-id/usb-1a86_USB_Serial-if00-port0
//	baud: 9600              # the default, as are parity: none, data_bits: 8, stop_bits: 1
//	format: keyvalue        # json | keyvalue | csv | regex
//	points:
//	  door: {field: DOOR, words: {open: true, closed: false}}
//	  temperature: {field: T, type: number, unit: "°C", deadband: 0.2}
//	  lamp: {field: LAMP, words: {"1": true, "0": false}, writable: true, write: "LAMP ${value}\n"}
//
// # Lines
//
// What comes is cut at the "delimiter" ("\n"); carriage returns around a line do
// not count, empty lines neither. A line is not understood, which is counted and
// shown, if it is longer than "max_line" (4096 bytes), is not text, does not fit
// the format, or has no field of a point:
//
//	json      one object; a field may be a path: "sensor.t"
//	keyvalue  T=21.5 H=40, or T:21.5; between pairs stand spaces, "," or ";", or
//	          what the key "separator" says
//	csv       as many fields as "columns" has names; "separator" is by default ","
//	regex     "pattern" with named groups: ^T=(?<t>[-0-9.]+)
//
// A port that is opened in the middle of a line begins with half a line, and half
// of 121.5 is a wrong value: a line that began less than 30 ms after the port was
// opened is passed over.
//
// # Points
//
// A point's "field" is by default its name; it must be a column of the csv, or a
// group of the pattern. Its "type" is number, bool (true, on,
// 1 and false, off, 0), text, or auto: whichever of these fits first, a number
// before 1 and 0; with JSON, what it is there. A field that is not of the type is a
// bad reading; the rest of the line counts.
//
// "words" give texts a meaning before that, in both directions. They are all that
// the point can be, unless its type is text or number: any other text is a bad
// reading, and a value that no word means cannot be written (1 and 0 count as true
// and false where these are meant). With type text or number, what is no word is
// taken as without words.
//
// A writable point has a "write", or the device has one for all of them: the text
// that is sent, in which ${value} and ${point} stand for what their names say. What
// is written counts as the point's value as soon as a line says so; "assume: true"
// is for equipment that never does.
//
// # Ports
//
// [Open] opens a port that nobody else has: it is locked (flock) before its
// settings are touched, so that a second opener cannot change the speed of a port
// that is in use, and then exclusive (TIOCEXCL). Reads and writes have time-outs,
// end with Close, and work with any descriptor: they go through Go's poller, not
// through the serial library's select, which panics above descriptor 1023. A port
// that is unplugged gives an error that is drivers.ErrLost.
//
// A port is a path or "usb:VID:PID[:SERIAL[:INTERFACE]]", which is looked up in sysfs
// each time it is opened; [Ports] lists what is there, without opening any. The driver
// is a drivers.Awaiter: a port that is plugged in again, under whatever name, is
// opened within a second, however long it was away.
//
// The sender of an RS-485 line is switched by the adapter itself, by the kernel
// (TIOCSRS485), or by RTS: then a Write returns when the last bit is out.
package serial
