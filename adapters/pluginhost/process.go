package pluginhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	goplugin_runner "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// process is a plugin that was started, has said what it is, and has taken its configuration.
type process struct {
	timing timing
	runner *runner
	logs   *logs
	conn   *grpc.ClientConn // nil before it has greeted
	source pluginv1.SourceClient
	stdio  sync.WaitGroup

	description plugin.Description
	serves      []*regexp.Regexp
	endpoints   []string
}

var errSlow = errors.New("too slow")

// start returns a process that is ready to run, or why there is none: a [refusal] where
// another try would end in the same way. What the process said of itself before it failed is
// returned, too.
func start(ctx context.Context, s *starter, t timing, cfg Config) (*process, error) {
	file, err := verify(cfg)
	if err != nil {
		return nil, err
	}
	defer file.file.Close() // the process has its own by then
	l := newLogs(cfg.Log, t.lines)
	p := &process{timing: t, logs: l, runner: &runner{starter: s, file: file, logs: l, exited: make(chan struct{})}}
	for _, step := range []struct {
		within time.Duration
		late   string
		do     func(context.Context) error
	}{
		{t.start, "it was not ready", func(ctx context.Context) error { return p.connect(ctx, cfg) }},
		{t.describe, "it did not describe itself", p.describe},
		{t.configure, "it did not take its configuration", func(ctx context.Context) error { return p.configure(ctx, cfg) }},
	} {
		if err = p.within(ctx, step.within, step.late, step.do); err != nil {
			p.end(0)
			return p, err
		}
	}
	return p, nil
}

// within bounds a step. When its time is up, or ctx ends, the process is killed: not all of
// go-plugin ends with a context.
func (p *process) within(ctx context.Context, d time.Duration, late string, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errSlow)
	defer cancel()
	defer context.AfterFunc(ctx, p.runner.kill)()
	err := step(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errSlow), status.Code(err) == codes.DeadlineExceeded: // whose timer is the first
		return fmt.Errorf("%s within %v", late, d)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return p.explain(err)
}

// explain adds how the process ended, if it has, to what was seen of that.
func (p *process) explain(err error) error {
	var no refusal
	if errors.As(err, &no) {
		return err
	}
	how := p.runner.fate()
	if how == "" {
		if s, ok := status.FromError(err); ok {
			return errors.New(clean(s.Message(), maxError))
		}
		return errors.New(clean(err.Error(), maxError))
	}
	if last := p.logs.ending(); last != "" {
		how += ", saying: " + clean(last, maxError)
	}
	return errors.New(how)
}

// connect starts the process and connects to it. Of go-plugin that takes the handshake and
// the certificates. Its client for gRPC is not used: it has no deadlines, opens a broker that
// nobody needs, and leaves its connection behind where that fails.
func (p *process) connect(ctx context.Context, cfg Config) error {
	conf := &goplugin.ClientConfig{
		HandshakeConfig:  plugin.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{plugin.Version: plugin.Set(nil)},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		AutoMTLS:         cfg.MTLS,
		StartTimeout:     2 * p.timing.start, // within's is shorter
		Logger:           p.logs.hclog(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.runner.starter.dir},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, dir string) (goplugin_runner.Runner, error) {
			return p.runner, p.runner.prepare(spec.Env, dir)
		},
	}
	addr, err := greet(goplugin.NewClient(conf))
	if fault := p.runner.greeter.fault(cfg.MTLS); fault != nil {
		return fault
	}
	if err != nil {
		return err
	}
	if err := p.runner.file.unchanged(); err != nil {
		return err
	}
	return p.dial(ctx, addr, conf.TLSConfig)
}

// greet starts the process and returns where it listens. go-plugin panics on some greetings.
func greet(client *goplugin.Client) (addr net.Addr, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("go-plugin cannot take its greeting: %v", r)
		}
	}()
	return client.Start()
}

// dial connects to where the process listens, and reads what it prints from then on.
func (p *process) dial(ctx context.Context, addr net.Addr, tls *tls.Config) (err error) {
	secure := insecure.NewCredentials()
	if tls != nil {
		secure = credentials.NewTLS(tls)
	}
	p.conn, err = grpc.NewClient("passthrough:///"+plugin.PluginName,
		grpc.WithTransportCredentials(secure),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, addr.Network(), addr.String())
		}),
		grpc.WithNoProxy(),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	p.source = pluginv1.NewSourceClient(p.conn)
	if err := p.ping(ctx); err != nil {
		return err
	}
	p.stdio.Go(func() { readStdio(p.conn, p.logs) })
	return nil
}

// ping asks the process for its health, as every one served by go-plugin tells it.
func (p *process) ping(ctx context.Context) error {
	_, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
	return err
}

// end ends the process, which has so long to do it itself. Nothing of it is left then.
func (p *process) end(grace time.Duration) {
	if grace > 0 && p.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		// go-plugin's word for it. Programs without it end with their stream.
		_ = p.conn.Invoke(ctx, "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
		select {
		case <-p.runner.exited:
		case <-ctx.Done():
		}
		cancel()
	}
	p.runner.kill()
	p.runner.remains()
	if p.conn != nil {
		p.conn.Close()
	}
	p.stdio.Wait()
}
