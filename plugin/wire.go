package plugin

import (
	"context"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// Version is the contract's version: the directory of its proto file.
const Version = 1

// PluginName is what the contract's one service is called in go-plugin's set.
const PluginName = "source"

// Handshake tells a source from any other program. It is no secret.
var Handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  Version,
	MagicCookieKey:   "BUSYLAMP_PLUGIN",
	MagicCookieValue: "presence-source",
}

// Set is go-plugin's set of what a program of a contract version serves. The client that it
// dispenses by [PluginName] is a pluginv1.SourceClient.
func Set(source Source) goplugin.PluginSet {
	return set(newServer(source))
}

func set(s *server) goplugin.PluginSet { return goplugin.PluginSet{PluginName: &wire{server: s}} }

// wire is the contract over go-plugin's gRPC.
type wire struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server // of no source on the host's side
}

// GRPCServer is part of goplugin.GRPCPlugin.
func (w *wire) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterSourceServer(s, w.server)
	return nil
}

// GRPCClient is part of goplugin.GRPCPlugin.
func (w *wire) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return pluginv1.NewSourceClient(c), nil
}
