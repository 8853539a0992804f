// Command bad is a source with one fault, which its argument names, for the suite's own test.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// stdout is the process's: go-plugin gives os.Stdout another meaning.
var stdout = os.Stdout

// bad is a source of one fault, by its mode; of none in the mode "good". It speaks the
// contract by itself: the SDK would not let most of the faults through.
type bad struct {
	pluginv1.UnimplementedSourceServer
	goplugin.NetRPCUnsupportedPlugin
	mode string
	runs atomic.Bool
}

func (b *bad) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterSourceServer(s, b)
	return nil
}

func (b *bad) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("this is a server")
}

func main() {
	mode := os.Args[len(os.Args)-1]
	if mode == "garbage" {
		fmt.Println("Welcome to my presence source!")
		time.Sleep(time.Minute)
		return
	}
	if mode != "orphan" {
		host := os.Getppid()
		go func() {
			for os.Getppid() == host {
				time.Sleep(50 * time.Millisecond)
			}
			os.Exit(0)
		}()
	}
	version := plugin.Version
	if mode == "version" {
		version++
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  plugin.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{version: {plugin.PluginName: &bad{mode: mode}}},
		GRPCServer:       goplugin.DefaultGRPCServer,
	})
}

func (b *bad) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d := &pluginv1.DescribeResponse{
		Name: "bad", Version: "1", Summary: "for the suite's test",
		Serves: []string{"sip:.*@example\\.com"},
		Keys: []*pluginv1.Key{
			{Name: "level", Doc: "a number", Required: true},
			{Name: "password", Doc: "of nothing", Secret: b.mode != "unmarked"},
		},
	}
	if b.mode == "regexp" {
		d.Serves = append(d.Serves, "sip:(?=x)")
	}
	return d, nil
}

func (b *bad) Configure(ctx context.Context, req *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	if b.mode == "hang" {
		<-ctx.Done()
		time.Sleep(time.Minute)
	}
	if b.mode == "chatty" {
		_, _ = fmt.Fprintln(stdout, "configured")
	}
	r := &pluginv1.ConfigureResponse{}
	problem := func(key, text string) { r.Problems = append(r.Problems, &pluginv1.Problem{Key: key, Text: text}) }
	config := map[string]any{}
	if err := json.Unmarshal([]byte(req.GetConfig()), &config); err != nil {
		problem("", err.Error())
		return r, nil
	}
	if config["level"] == nil && b.mode != "lax" {
		problem("level", "is missing")
	}
	for key, value := range config {
		switch key {
		case "level":
			if _, ok := value.(float64); !ok {
				problem("level", "must be a number")
			}
		case "password":
			if _, ok := value.(string); !ok && b.mode == "revealing" {
				problem("password", fmt.Sprintf("must be text, not %.0f", value))
			} else if !ok {
				problem("password", "must be text")
			}
		default:
			switch b.mode {
			case "lenient":
			case "leaky":
				problem(key, fmt.Sprintf("unknown key in %v", config))
			default:
				problem(key, "unknown key")
			}
		}
	}
	return r, nil
}

func (b *bad) Run(stream pluginv1.Source_RunServer) error {
	if b.mode != "twice" && !b.runs.CompareAndSwap(false, true) {
		return status.Error(codes.FailedPrecondition, "it runs")
	}
	if b.mode != "deaf" {
		defer func() { time.AfterFunc(50*time.Millisecond, func() { os.Exit(0) }) }()
	}
	if b.mode != "unconnected" {
		_ = stream.Send(&pluginv1.SourceMessage{Connector: &pluginv1.Connector{State: pluginv1.Connector_STATE_UP}})
	}
	watched, sequence := map[string]bool{}, uint64(1000)
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		for _, t := range m.GetWatch() {
			p := t.GetPresentity()
			if p == "" && b.mode == "fragile" {
				panic("who?")
			}
			first := !watched[p]
			watched[p] = true
			if b.mode == "crash" && len(watched) > 900 {
				panic("so many")
			}
			if b.mode == "mute" || p == "" {
				continue
			}
			if out := b.answer(p, first, &sequence); stream.Send(out) != nil {
				return nil
			}
		}
		for _, p := range m.GetUnwatch() {
			if b.mode == "keeps" && watched[p] && strings.HasSuffix(p, "@example.com") {
				go b.keepOn(stream, p)
			}
		}
	}
}

// answer is what is said to a watch: all is well but for the mode's fault.
func (b *bad) answer(p string, first bool, sequence *uint64) *pluginv1.SourceMessage {
	now := time.Now()
	*sequence++
	c := &pluginv1.Claim{
		Presentity: p, Availability: pluginv1.Availability_AVAILABILITY_BUSY, Sequence: *sequence,
		Since: timestamppb.New(now.Add(-time.Minute)), Until: timestamppb.New(now.Add(time.Hour)),
	}
	sub := &pluginv1.Subscription{Presentity: p, State: pluginv1.Subscription_STATE_ACTIVE}
	out := &pluginv1.SourceMessage{Claims: []*pluginv1.Claim{c}, Subscriptions: []*pluginv1.Subscription{sub}}
	switch b.mode {
	case "strangers":
		out.Claims = append(out.Claims, &pluginv1.Claim{Presentity: "sip:somebody@example.com", Availability: c.Availability})
	case "unserved":
		out.Claims = append(out.Claims, &pluginv1.Claim{Presentity: "sip:a@elsewhere.invalid", Availability: c.Availability})
	case "forever":
		c.Until = timestamppb.New(now.Add(48 * time.Hour))
	case "backwards":
		c.Until = timestamppb.New(now.Add(-2 * time.Minute))
	case "past":
		c.Since, c.Until = nil, timestamppb.New(now.Add(-5*time.Minute))
	case "sequence":
		*sequence -= 2
		if !first {
			c.Sequence = *sequence
		}
	case "availability":
		c.Availability = 17
	case "state":
		sub.State = 0
	case "large":
		c.Note = string(make([]byte, 10<<20))
	case "once":
		if !first {
			out.Claims = nil
		}
	}
	if !strings.HasSuffix(p, "@example.com") && b.mode != "gullible" {
		return &pluginv1.SourceMessage{Subscriptions: []*pluginv1.Subscription{{Presentity: p, State: pluginv1.Subscription_STATE_NOT_FOUND}}}
	}
	return out
}

// keepOn goes on to speak of who was unwatched.
func (b *bad) keepOn(stream pluginv1.Source_RunServer, p string) {
	for stream.Context().Err() == nil {
		_ = stream.Send(&pluginv1.SourceMessage{Claims: []*pluginv1.Claim{{Presentity: p, Availability: pluginv1.Availability_AVAILABILITY_BUSY}}})
		time.Sleep(200 * time.Millisecond)
	}
}
