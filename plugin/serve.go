package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

const (
	// parentEvery is how often the SDK looks whether the host still is its parent.
	parentEvery = time.Second
	// farewell is how long the host has to hear how Run ended before the process is gone.
	farewell = 250 * time.Millisecond
)

// Serve is all that a source's main does: it serves the host that has started the process,
// and ends the process when the host is done with it, or is gone. What is logged by slog or
// log arrives in the host's log. It does not return.
func Serve(source Source) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		d := source.Describe()
		fmt.Fprintf(os.Stderr, "%s %s is a source for busylamp, which starts it by itself.\n"+
			"Put it in plugins.dir, and name it in the configuration's sources.\n", d.Name, d.Version)
		os.Exit(2)
	}
	// go-plugin gives os.Stderr another meaning: the host reads this one. It also ignores
	// SIGINT, which a terminal sends to the host's whole group: the host ends its sources.
	stderr := os.Stderr
	slog.SetDefault(slog.New(newLines(stderr, os.Getenv(LogLevelKey))))

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := newServer(source)
	s.ctx = ctx
	s.ended = func(err error) {
		select {
		case ended <- err:
		default: // it ends already
		}
	}
	stop, served := start(s, stderr)
	code := 0
	select {
	case err := <-ended:
		if err != nil {
			code = 1
			slog.Error(err.Error())
		}
		s.settle()
		time.Sleep(farewell)
	case <-orphaned(os.Getppid(), parentEvery, os.Getppid):
	case <-served: // the host has asked for it
	}
	cancel()
	s.settle()
	stop()
	<-served
	os.Exit(code)
}

// start serves by go-plugin until stop is called, or the host says so; served is closed then.
func start(s *server, stderr *os.File) (stop func(), served <-chan struct{}) {
	made := make(chan *grpc.Server, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig:  Handshake,
			VersionedPlugins: map[int]goplugin.PluginSet{Version: set(s)},
			GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
				g := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage))...)
				made <- g
				return g
			},
			Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: stderr, JSONFormat: true}),
		})
	}()
	return func() {
		select {
		case g := <-made:
			g.Stop()
		case <-done: // it could not listen, and has logged why
		}
	}, done
}

// orphaned returns a channel that is closed when parent, asked each so often, is another than
// at first: the host is gone, even if by kill -9.
func orphaned(first int, each time.Duration, parent func() int) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		for parent() == first {
			time.Sleep(each)
		}
		close(out)
	}()
	return out
}
