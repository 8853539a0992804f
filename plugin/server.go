package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// runEnd is how long a source may take to return from Run once its ctx has ended. The host
// kills it after 2 s.
const runEnd = 1500 * time.Millisecond

// server answers the host for a source.
type server struct {
	pluginv1.UnimplementedSourceServer
	source Source
	// ctx is the process's: its end ends a Run. Run's own is of the stream as well.
	ctx context.Context
	// ended is told when the process has no more to do, with what was wrong if anything was.
	ended func(error)

	mu        sync.Mutex
	about     *about // nil until the source has described itself
	endpoints int
	state     state
	run       chan struct{} // closed when Run has returned; nil before it is called
}

// state is how far the host has come with the source.
type state uint8

const (
	fresh state = iota
	configured
	ran // Run was called, and perhaps has ended
)

func newServer(s Source) *server {
	return &server{source: s, ctx: context.Background(), ended: func(error) {}}
}

// Describe is the contract's.
func (s *server) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.describe()
	if err != nil {
		return nil, err
	}
	return descriptionOut(a.Description), nil
}

// describe asks the source once what it is. The caller holds mu.
func (s *server) describe() (*about, error) {
	if s.about != nil {
		return s.about, nil
	}
	var d Description
	if err := guard("Describe", func() error { d = s.source.Describe(); return nil }); err != nil {
		return nil, s.fail(err)
	}
	a, err := understand(d)
	if err != nil {
		return nil, s.fail(err)
	}
	s.about = a
	return a, nil
}

// Configure is the contract's. It may come again until Run does: the last one applies.
func (s *server) Configure(_ context.Context, req *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == ran {
		return nil, status.Error(codes.FailedPrecondition, "the source runs: it is configured once in a process's life")
	}
	a, err := s.describe()
	if err != nil {
		return nil, err
	}
	s.state = fresh
	c := Config{Name: req.GetName(), OwnTuples: req.GetOwnTuples(), json: []byte(req.GetConfig()), keys: a.Keys}
	problems := c.missing()
	if len(problems) == 0 {
		err = guard("Configure", func() error { problems = asProblems(s.source.Configure(c)); return nil })
		if err != nil {
			return nil, s.fail(err)
		}
	}
	if len(problems) > 0 {
		return &pluginv1.ConfigureResponse{Problems: problemsOut(problems)}, nil
	}
	var endpoints []string
	if e, ok := s.source.(Endpoints); ok {
		if err := guard("Endpoints", func() error { endpoints = e.Endpoints(); return nil }); err != nil {
			return nil, s.fail(err)
		}
	}
	s.state, s.endpoints = configured, len(endpoints)
	return &pluginv1.ConfigureResponse{Endpoints: cutAll(endpoints)}, nil
}

// Run is the contract's. It comes once in a process's life, and its end is the process's.
func (s *server) Run(stream pluginv1.Source_RunServer) error {
	a, endpoints, err := s.begin()
	if err != nil {
		return err
	}
	defer close(s.run)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	h := newHost(ctx, a, endpoints)
	sent := h.start(stream, cancel)

	err = s.work(ctx, h)
	h.finish()
	select {
	case <-sent:
	case <-time.After(runEnd): // the host does not read what the source said last
	}
	s.ended(err)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

// begin claims the one Run of the process's life.
func (s *server) begin() (*about, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case fresh:
		return nil, 0, status.Error(codes.FailedPrecondition, "the source is not configured")
	case ran:
		return nil, 0, status.Error(codes.FailedPrecondition, "a source runs once in a process's life")
	}
	s.state, s.run = ran, make(chan struct{})
	return s.about, s.endpoints, nil
}

// work lets the source run and gives it runEnd to return after its ctx ended.
func (s *server) work(ctx context.Context, h *host) error {
	done := make(chan error, 1)
	go func() {
		done <- guard("Run", func() error { return s.source.Run(ctx, h) })
	}()
	var err error
	select {
	case err = <-done:
		if ctx.Err() == nil && err == nil {
			return errors.New("source: Run returned before its ctx ended: " +
				"a source works until then, and says by a Connector what befalls its system")
		}
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(runEnd):
			return fmt.Errorf("source: Run has not returned within %s of its ctx's end", runEnd)
		}
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // ctx.Err() returned: as good as nil
	}
	return err
}

// settle waits for a Run whose ctx has ended.
func (s *server) settle() {
	s.mu.Lock()
	run := s.run
	s.mu.Unlock()
	if run == nil {
		return
	}
	select {
	case <-run:
	case <-time.After(2 * runEnd): // work gives up before
	}
}

// fail ends the process for a fault of the source's code, and makes it the host's answer.
func (s *server) fail(err error) error {
	s.ended(err)
	return status.Error(codes.Internal, err.Error())
}

// guard calls the author's code. A panic in it becomes an error, with the stack in the log.
func guard(name string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("source: %s panicked: %v", name, r)
			slog.Error(err.Error(), "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// asProblems takes what Configure returned apart.
func asProblems(err error) []Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // a tree is walked
		var out []Problem
		for _, e := range joined.Unwrap() {
			out = append(out, asProblems(e)...)
		}
		return out
	}
	var p Problem
	if errors.As(err, &p) {
		return []Problem{p}
	}
	return []Problem{{Text: err.Error()}}
}

// closed tells whether a stream ended as streams do.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled
}
