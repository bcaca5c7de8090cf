// Package config is the gateway's file: decoded strictly, defaulted, overridden
// from the environment, checked.
//
//	broker:
//	  listeners:
//	    - {address: "127.0.0.1:1883", protocol: mqtt}
//	  anonymous: true
//	  users: users
//	  acl: acl.yaml
//	  limits: {connections: 10000, publish_rate: 0}
//	rules:   {folder: scripts}
//	devices: {folder: devices}
//	plugins: {folder: plugins}
//	console: {address: "127.0.0.1:8080"}
//
// Every key can be overridden from the environment: its path in upper case, with
// two underscores between the levels, after GATEHOUSE_. The value is YAML:
//
//	GATEHOUSE_CONSOLE__ADDRESS=127.0.0.1:9090
//	GATEHOUSE_BROKER__LISTENERS='[{address: "127.0.0.1:1884"}]'
//
// What is wrong is an [Error] with the place and the source line. [ParseACL] reads the
// file that says who may do what the same way.
package config
