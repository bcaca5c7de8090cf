// Package auth has the authorizers of the gateway: implementations of
// [broker.Authorizer].
//
//	broker.New(broker.Options{Store: mem.New(), Authorizer: auth.Anonymous()})
package auth
