// Package serial is a driver for equipment on serial ports that speaks frames of text
// or bytes, by itself or when it is asked, and the opener of serial ports for others.
//
//	driver: serial
//	topic: home/hall
//	port: usb:1a86:7523
//	baud: 9600              # the default, as are parity: none, data_bits: 8, stop_bits: 1
//	format: keyvalue        # json | keyvalue | csv | regex | nmea | binary
//	points:
//	  door: {field: DOOR, words: {open: true, closed: false}}
//	  temperature: {field: T, type: number, unit: "°C", deadband: 0.2}
//	  lamp: {field: LAMP, words: {"1": true, "0": false}, writable: true, write: "LAMP ${value}\n"}
//
// docs/devices.md has all keys.
//
// # From bytes to readings, and back
//
// A line is an open port with the devices that share it and one goroutine that listens.
// Each device has a reader, which cuts what comes into frames (a cutter), checks them
// (a checksum) and, for what is sent, makes them. A format, a layout or a codec finds
// the points in what a frame says.
//
// A port that is opened in the middle of a line begins with half a line, and half of
// 121.5 is a wrong value: a frame that began less than 30 ms after the port was opened
// is passed over, where neither marks nor a checksum tell that it is whole.
//
// # Points
//
// A point's "field" is by default its name; it must be a column of the csv, or a
// group of the pattern. Its "type" is number, bool (true, on,
// 1 and false, off, 0), text, or auto: whichever of these fits first, a number
// before 1 and 0; with JSON, what it is there. A field that is not of the type is a
// bad reading; the rest of the frame counts.
//
// "words" give texts a meaning before that, in both directions. They are all that
// the point can be, unless its type is text or number: any other text is a bad
// reading, and a value that no word means cannot be written (1 and 0 count as true
// and false where these are meant). With type text or number, what is no word is
// taken as without words.
//
// A writable point has a "write", or the device has one for all of them: what is
// sent, in which ${value} and ${point} stand for what their names say. What is
// written counts as the point's value as soon as a frame says so; "assume: true"
// is for equipment that never does.
//
// # Exchanges
//
// A point with a "request" is polled. Exchanges on a line come one after the other,
// each device in its turn, commands before requests. What came before a request is no
// answer to it; after a time-out the line is given as long again to say what is late,
// unless the next request tells its own answer. A command is sent once; a request may
// be sent again. A device that was silent is asked one thing once, each time another.
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
