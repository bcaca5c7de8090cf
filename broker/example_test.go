package broker_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	listening "github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// A broker in five lines: it serves local clients until the context ends.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	server, err := broker.New(broker.Options{Store: mem.New(), Authorizer: auth.Anonymous()})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := listening.Listen(ctx, listening.Options{Address: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	stopped := make(chan error, 2)
	go func() { stopped <- server.Run(ctx) }()
	go func() { stopped <- server.Serve(ctx, listener) }()

	// The program itself publishes and subscribes without a socket.
	heard := message.Subscription{Name: "example", Filters: []string{"hello/+"}, Ready: func() {
		go func() {
			if err := server.Publish(ctx, message.Message{Topic: "hello/world", Payload: []byte("here I am")}); err != nil {
				log.Print(err)
			}
		}()
	}}
	err = server.Subscribe(ctx, heard, func(_ context.Context, batch []message.Message) error {
		fmt.Printf("%s: %s\n", batch[0].Topic, batch[0].Payload)
		cancel()
		return nil
	})
	fmt.Println(err, <-stopped, <-stopped)
	// Output:
	// hello/world: here I am
	// <nil> <nil> <nil>
}
