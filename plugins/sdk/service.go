package sdk

import (
	"context"
	"errors"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/gatehouse/gatehouse/plugins/wire"
)

// service registers the servers with go-plugin.
type service struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements plugin.GRPCPlugin.
func (s *service) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	wire.RegisterDriverServer(g, s.server)
	wire.RegisterFuncServer(g, newFuncServer(s.server))
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; a plugin has no plugins.
func (*service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin cannot be a gateway")
}
