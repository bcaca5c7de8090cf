// Package console is the gateway's HTTP side: a JSON API with its OpenAPI
// description, Prometheus metrics, health, and a page that shows what is going on.
//
//	GET /                  the page
//	GET /api/v1/clients    who is connected, or has a session
//	GET /api/v1/listeners  what they took and refused, and their certificates
//	GET /api/v1/topics     retained messages; ?filter=home/#&limit=100
//	GET /api/v1/rules      rule files, their counters, errors and last runs
//	GET /api/v1/devices    devices with their points
//	GET /api/v1/plugins    plugin processes
//	POST /api/v1/devices/NAME/read  asks a device now; ?point=A&point=B
//	GET /openapi.json      what the API is, as OpenAPI 3.1 (also .yaml)
//	GET /metrics           Prometheus
//	GET /healthz           200 while the program works
//	GET /readyz            200 when it takes messages, 503 before and while it stops
//
// It knows the gateway by the small interface [Source] alone. Everything is
// read-only, but that a device may be asked now. A request whose Host is not this
// machine's loopback is refused, so that no page of the web can read the API through a
// name of its own, and so is what a page of another origin has a browser post.
package console
