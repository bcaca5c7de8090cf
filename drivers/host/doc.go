// Package host is a driver for the computer that the gateway runs on: temperature, load,
// memory, disks, network, and what a Raspberry Pi and its storage say of their health.
// It reads /proc and /sys of Linux. What it starts are looks at file systems, at most one
// a path. One that hangs cannot be ended: Close waits for it for three seconds, and the
// next device of that path takes it over.
//
//	driver: host
//	every: 30s
//	points:
//	  cpu_temperature: {}
//	  data_used: {reads: disk_used, path: /data}
//
// The key "reads" of a point says what it is; left out it is the point's name. Without
// points the device has all that the computer tells when the file is read.
//
// What cannot be read is a bad reading with the reason, and costs no other point
// anything; a file system that does not answer costs the others three seconds, once. Rates and shares are of the time since the point was read before; the first
// time of a quarter of a second.
package host
