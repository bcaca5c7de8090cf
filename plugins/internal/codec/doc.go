// Package codec carries what drivers speak of (values, readings, points, device
// files, errors) to and from the messages of plugins/wire, without loss. Both ends
// share it: plugins in the gateway and plugins/sdk in the plugin.
//
// A name ending in To makes a message, one ending in From reads a message that the
// other process sent; From checks what it is given and never panics.
package codec
