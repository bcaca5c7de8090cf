// Package wire holds the words between the gateway and its plugins: the protocol
// buffers of driver.proto and func.proto, compiled, and the handshake.
//
// Nobody but plugins and plugins/sdk speaks them. Authors of plugins use
// plugins/sdk and never see this package.
//
// A plugin is started with the magic cookie in its environment, a pipe as its
// standard input that stays open and silent until the gateway stops it or dies, and
// the program's own file as descriptor 3. It answers with one line on its standard
// output, as hashicorp/go-plugin says, and serves [DriverServer] and [FuncServer] on
// the socket named there, with mutual TLS. When its standard input ends, it closes its
// devices and ends.
//
// After a change of a .proto file run "go generate ./plugins/wire" with protoc 3.21,
// protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.6.2 in PATH, and commit what it
// writes:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//	go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative driver.proto func.proto

// The handshake. A plugin of another ProtocolVersion is refused with both versions
// named.
const (
	// ProtocolVersion is the version of the words in driver.proto and func.proto.
	ProtocolVersion = 1
	// CookieKey and CookieValue tell a plugin that a gateway started it. They are
	// no secret and protect nothing: they keep people from running plugins by hand.
	CookieKey   = "GATEHOUSE_PLUGIN"
	CookieValue = "3f1c8a52c9d04b6e9e1f"
	// ServiceName is the name under which go-plugin knows the services.
	ServiceName = "driver"
	// Farewell is what the gateway writes to the plugin's standard input before it
	// closes it in good order.
	Farewell = "bye\n"
	// MaxMessage is the longest message either side accepts, in bytes.
	MaxMessage = 16 << 20
	// MaxFuncJSON is how long the arguments of a call of a function may be together,
	// and how long its result, in bytes.
	MaxFuncJSON = 1 << 20
	// MaxFuncError is how much of a function's error is passed on, in bytes.
	MaxFuncError = 2 << 10
)
