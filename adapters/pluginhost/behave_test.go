package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// behave is a plugin's main. Most serve the contract by hand, so that they can break it.
func behave(name string) {
	version := plugin.Version
	switch name {
	case "sdk":
		plugin.Serve(sdk{})
	case "silent":
		time.Sleep(time.Hour)
	case "exit":
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(3)
	case "version2":
		version = 2
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  plugin.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{version: {plugin.PluginName: &rawPlugin{raw: &raw{name: name}}}},
		GRPCServer:       func(o []grpc.ServerOption) *grpc.Server { return grpc.NewServer(o...) },
	})
	if name == "stubborn" {
		time.Sleep(time.Hour)
	}
}

type rawPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	raw *raw
}

// GRPCServer is part of goplugin.GRPCPlugin.
func (p *rawPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterSourceServer(s, p.raw)
	return nil
}

// GRPCClient is part of goplugin.GRPCPlugin.
func (p *rawPlugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("not here")
}

// raw is a source that does as its configuration says.
type raw struct {
	pluginv1.UnimplementedSourceServer
	name string
	do   string
}

// Describe is part of the contract.
func (r *raw) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d := &pluginv1.DescribeResponse{Name: "raw", Version: "1.2.3", Batch: 5, Serves: []string{`sip:.*@example\.com`}}
	switch r.name {
	case "badserves":
		d.Serves = []string{"("}
	case "slowdescribe":
		time.Sleep(time.Hour)
	}
	return d, nil
}

// Configure is part of the contract.
func (r *raw) Configure(_ context.Context, req *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	var c struct{ Do string }
	if err := json.Unmarshal([]byte(req.GetConfig()), &c); err != nil {
		return nil, err
	}
	if r.do = c.Do; r.do == "problem" {
		return &pluginv1.ConfigureResponse{Problems: []*pluginv1.Problem{{Key: "do", Text: "is no good: write something else"}}}, nil
	}
	return &pluginv1.ConfigureResponse{Endpoints: []string{"application", req.GetName()}}, nil
}

// busy is a claim.
func busy(who, note string) *pluginv1.SourceMessage {
	return &pluginv1.SourceMessage{Claims: []*pluginv1.Claim{{Presentity: who, Note: note, Availability: pluginv1.Availability_AVAILABILITY_BUSY}}}
}

// connector says how a source stands with its system.
func connector(up bool) *pluginv1.SourceMessage {
	c := &pluginv1.Connector{State: pluginv1.Connector_STATE_CONNECTION_ERROR, Reason: "reset by peer"}
	if up {
		c = &pluginv1.Connector{State: pluginv1.Connector_STATE_UP}
	}
	return &pluginv1.SourceMessage{Connector: c}
}

// Run is part of the contract.
func (r *raw) Run(s pluginv1.Source_RunServer) error {
	switch r.do {
	case "end":
		return nil
	case "error":
		return errors.New("the system\nis too old")
	case "panic":
		panic("what a pity")
	case "exit":
		fmt.Fprintln(stderr, "[ERROR] out of ideas")
		os.Exit(3)
	case "flood":
		for s.Send(busy("sip:a@example.com", "")) == nil {
		}
	case "emptyflood":
		for s.Send(&pluginv1.SourceMessage{}) == nil {
		}
	case "flap": // its connection comes and goes a hundred times a second
		for i := 0; s.Send(connector(i%2 == 0)) == nil; i++ {
			time.Sleep(10 * time.Millisecond)
		}
	case "blip": // it fails once, and is back at once
		for i := range 3 {
			_ = s.Send(connector(i%2 == 0))
			_ = s.Send(connector(i%2 == 0)) // nothing new
		}
		_ = s.Send(busy("sip:a@example.com", "after the failure"))
	case "big":
		return s.Send(busy("sip:a@example.com", strings.Repeat("x", 1<<20)))
	case "environment":
		for i, kv := range os.Environ() {
			_ = s.Send(busy(fmt.Sprintf("sip:%d@example.com", i), kv))
		}
		open, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range open {
			to, _ := os.Readlink(fd)
			_ = s.Send(busy("sip:fd@example.com", "="+to))
		}
		_ = s.Send(busy("sip:done@example.com", ""))
	case "stubborn": // it ignores all but SIGKILL, and so does its child
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		child := exec.Command("/bin/sleep", "1000")
		if err := child.Start(); err != nil {
			return err
		}
		_ = s.Send(busy("sip:child@example.com", fmt.Sprint(child.Process.Pid)))
		time.Sleep(time.Hour)
	case "deaf":
		time.Sleep(time.Hour)
	case "count": // numbered claims, as fast as they are taken
		for i := range uint64(3000) {
			m := busy("sip:a@example.com", "")
			m.Claims[0].Sequence = i + 1
			if s.Send(m) != nil {
				return nil
			}
		}
	case "chatter":
		chatter()
	case "takeback": // it withdraws what it said when it ends
		_, err := s.Recv()
		for err == nil {
			_, err = s.Recv()
		}
		return s.Send(&pluginv1.SourceMessage{Claims: []*pluginv1.Claim{{Presentity: "sip:a@example.com"}}})
	}
	return r.answer(s)
}

// answer says what it is asked for.
func (r *raw) answer(s pluginv1.Source_RunServer) error {
	if err := s.Send(&pluginv1.SourceMessage{Connector: &pluginv1.Connector{State: pluginv1.Connector_STATE_UP}}); err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return nil
		}
		for _, t := range m.GetWatch() {
			switch t.GetPresentity() {
			case "sip:die@example.com":
				os.Exit(7)
			case "sip:print@example.com":
				for range 100_000 { // more than a pipe holds
					fmt.Println("printed without end")
					fmt.Fprintln(stdout, "and where the greeting went")
				}
			}
			out := busy(t.GetPresentity(), fmt.Sprintf("endpoint %d upn %s in %s", t.GetEndpoint(), t.GetUpn(), r.name))
			out.Subscriptions = []*pluginv1.Subscription{{Presentity: t.GetPresentity(), State: pluginv1.Subscription_STATE_ACTIVE}}
			if err := s.Send(out); err != nil {
				return err
			}
		}
		for _, who := range m.GetUnwatch() {
			if err := s.Send(busy(who, "unwatched")); err != nil {
				return err
			}
		}
	}
}

// chatter logs in all ways that there are.
func chatter() {
	slog.New(slog.NewJSONHandler(stderr, nil)).Warn("by slog", "key", "value", "n", 5)
	for _, line := range []string{
		`{"@level":"error","@message":"by hclog","@timestamp":"2026-01-02T03:04:05.000000Z","who":"sip:a@example.com"}`,
		`{"@level":7,"@message":8,"@timestamp":9}`, // go-plugin's own reader panics on it
		`{"@message":`, "", "\x00\x1b[31mred", "[WARN] by prefix", "plain text",
		"long " + strings.Repeat("y", 1<<20), "after the long one",
	} {
		fmt.Fprintln(stderr, line)
	}
	fmt.Println("printed to standard output")
	fmt.Fprintln(os.Stderr, "printed to standard error")
}

// stdout and stderr are descriptors 1 and 2, whatever os.Stdout and os.Stderr are by now.
var stdout, stderr = os.Stdout, os.Stderr

// sdk is a source by the SDK.
type sdk struct{}

// Describe is part of plugin.Source.
func (sdk) Describe() plugin.Description {
	return plugin.Description{Name: "sdk", Version: "0.1.0", Summary: "a test", Unasked: true}
}

// Configure is part of plugin.Source.
func (sdk) Configure(plugin.Config) error { return nil }

// Run is part of plugin.Source.
func (sdk) Run(ctx context.Context, h plugin.Host) error {
	slog.Warn("the sdk runs")
	h.Connector(plugin.Connector{State: plugin.Up})
	for {
		select {
		case <-ctx.Done():
			return nil
		case r, ok := <-h.Requests():
			if !ok {
				return nil
			}
			for _, t := range r.Watch {
				h.Claim(plugin.Claim{Presentity: t.Presentity, Availability: plugin.DoNotDisturb})
			}
		}
	}
}

// hostDir is a directory with plugins for a host of its own, which is to be killed.
const hostDir = "PLUGINHOST_TEST_DIR"
