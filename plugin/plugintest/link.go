package plugintest

import (
	"context"
	"fmt"
	"net"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// link is a connection to a source.
type link struct {
	client pluginv1.SourceClient
	proc   *process // nil if the source is within the test's process
	hangUp func()   // closes the connection and leaves the process
	close  func()   // ends all of it
}

// open starts the source that options name; with a parent, under a process of its own.
func (o Options) open(parent bool) (*link, error) {
	if o.Source != nil {
		return within(o.Source())
	}
	var proc *process
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  plugin.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{plugin.Version: plugin.Set(nil)},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		AutoMTLS:         !o.NoMTLS,
		StartTimeout:     starting,
		Logger:           quiet(),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			var err error
			proc, err = newProcess(o.Command, spec.Env, parent)
			return proc, err
		},
	})
	fail := func(err error) error {
		client.Kill()
		if proc != nil {
			_ = proc.Kill(context.Background())
			return fmt.Errorf("%w%s", err, proc.lastWords())
		}
		return err
	}
	protocol, err := client.Client()
	if err != nil {
		return nil, fail(err)
	}
	dispensed, err := protocol.Dispense(plugin.PluginName)
	if err != nil {
		return nil, fail(err)
	}
	source, ok := dispensed.(pluginv1.SourceClient)
	if !ok {
		return nil, fail(fmt.Errorf("it serves a %T", dispensed))
	}
	return &link{
		client: source, proc: proc,
		hangUp: func() {
			if g, ok := protocol.(*goplugin.GRPCClient); ok {
				_ = g.Conn.Close()
			}
		},
		close: func() {
			_ = proc.Kill(context.Background())
			<-proc.exited
			client.Kill()
		},
	}, nil
}

// within serves a source in the test's process.
func within(source plugin.Source) (*link, error) {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(plugin.MaxMessage), grpc.MaxSendMsgSize(plugin.MaxMessage))
	set, ok := plugin.Set(source)[plugin.PluginName].(goplugin.GRPCPlugin)
	if !ok {
		return nil, fmt.Errorf("plugintest: the set has no %s", plugin.PluginName)
	}
	if err := set.GRPCServer(nil, server); err != nil {
		return nil, err
	}
	listener := bufconn.Listen(1 << 20)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // Stop ends it
	}()
	conn, err := grpc.NewClient("passthrough:source",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &link{
		client: pluginv1.NewSourceClient(conn),
		hangUp: func() { _ = conn.Close() },
		close: func() {
			_ = conn.Close()
			server.Stop()
			<-served
		},
	}, nil
}
