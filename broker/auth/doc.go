// Package auth has the authorizers of the gateway: implementations of
// [broker.Authorizer].
//
// [Anonymous] lets in who comes from this machine. An [Authority] knows [Users], who
// have passwords or the keys of SCRAM-SHA-256 in a file, or come with certificates,
// and an [ACL], which says who may do what; both can be replaced while it is asked.
// An ACL is made of rules ([NewACL]) or read from a file of mosquitto
// ([ParseMosquittoACL]). [SetUser] and [RemoveUser] change a users file.
//
//	users, err := auth.ParseUsers("users", text)
//	...
//	acl, err := auth.NewACL(nil, []auth.Rule{{All: true, Actions: auth.ReadWrite, Topics: []string{"users/%u/#"}}})
//	...
//	authority := auth.New(auth.Options{Policy: auth.Policy{Users: users, ACL: acl}})
//	server, err := broker.New(broker.Options{Store: mem.New(), Authorizer: authority})
//	...
//	authority.Load(auth.Policy{Users: users, ACL: another})
//	server.Reauthorize()
//
// Who guesses passwords is slowed down by address: after three failures each doubles
// the time until the next attempt from there is looked at.
package auth
