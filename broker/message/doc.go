// Package message is the noun that every part of the gateway shares: one
// application message on its way, and the bus it travels on.
//
// Clients, devices, rules, plugins and uplinks meet on topics and nowhere else.
// The broker implements [Bus]; everything else is handed one:
//
//	err := bus.Publish(ctx, message.Message{Topic: "home/hall/lamp/set", Payload: []byte("true")})
//
//	err := bus.Subscribe(ctx, message.Subscription{
//		Name:    "lamp",
//		Filters: []string{"home/+/lamp/set"},
//	}, func(ctx context.Context, batch []message.Message) error {
//		return nil // acknowledges the batch
//	})
//
// The package imports the standard library only, and knows nothing of sockets,
// sessions or storage.
package message
