// Package durable writes what must survive a power cut. Nothing else of the gateway
// renames or syncs files.
package durable
