package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// session is a source that runs, and all that it has said.
type session struct {
	*link
	about  *pluginv1.DescribeResponse
	serves []*regexp.Regexp
	stream pluginv1.Source_RunClient
	cancel context.CancelFunc
	done   chan struct{} // closed when the source says nothing more

	mu            sync.Mutex
	changed       chan struct{} // closed and renewed at each message
	watched       map[string]bool
	unwatched     map[string]time.Time
	claims        map[string]*pluginv1.Claim        // the last one
	subscriptions map[string]*pluginv1.Subscription // the last one
	told          map[string]told
	connector     *pluginv1.Connector
	sequences     map[string]uint64
	faults        faults
	err           error // why the stream ended
}

// most bounds the presentities that a session remembers.
const most = 100_000

// told counts what was said of a presentity.
type told struct{ claims, subscriptions int }

// faults are what is wrong with messages: some of each kind are enough.
type faults struct {
	texts []string
	kinds map[string]int
}

func (f *faults) add(kind, format string, args ...any) {
	const enough = 3
	if f.kinds == nil {
		f.kinds = map[string]int{}
	}
	if f.kinds[kind]++; f.kinds[kind] <= enough {
		f.texts = append(f.texts, fmt.Sprintf(format, args...))
	}
}

// describe asks a source what it is, within a bound.
func (l *link) describe(ctx context.Context, o Options) (*pluginv1.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Answer)
	defer cancel()
	d, err := l.client.Describe(ctx, &pluginv1.DescribeRequest{})
	return d, l.explain("Describe", err, o)
}

// configure gives a source its section, within a bound.
func (l *link) configure(ctx context.Context, o Options, config map[string]any) (*pluginv1.ConfigureResponse, error) {
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Answer)
	defer cancel()
	r, err := l.client.Configure(ctx, &pluginv1.ConfigureRequest{Config: string(b), Name: "plugintest"})
	return r, l.explain("Configure", err, o)
}

// explain says what an RPC's failure means.
func (l *link) explain(rpc string, err error, o Options) error {
	switch {
	case err == nil:
		return nil
	case status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%s must answer within %s, and has not", rpc, o.Answer)
	}
	words := ""
	if l.proc != nil {
		select { // the process's last words come after the connection's end
		case <-l.proc.exited:
		case <-time.After(time.Second):
		}
		words = l.proc.lastWords()
	}
	return fmt.Errorf("%s must answer, and has failed: %w%s", rpc, err, words)
}

// begin starts a source, configures it as options say, and lets it run.
func (o Options) begin(ctx context.Context) (*session, error) {
	l, err := o.open(false)
	if err != nil {
		return nil, err
	}
	s, err := l.begin(ctx, o)
	if err != nil {
		l.close()
		return nil, err
	}
	return s, nil
}

func (l *link) begin(ctx context.Context, o Options) (*session, error) {
	about, err := l.describe(ctx, o)
	if err != nil {
		return nil, err
	}
	config, err := section(o.Config)
	if err != nil {
		return nil, err
	}
	r, err := l.configure(ctx, o, config)
	if err != nil {
		return nil, err
	}
	if ps := r.GetProblems(); len(ps) > 0 {
		return nil, fmt.Errorf("the good configuration is refused: %s: %s", ps[0].GetKey(), ps[0].GetText())
	}
	s := &session{
		link: l, about: about, done: make(chan struct{}), changed: make(chan struct{}),
		watched: map[string]bool{}, unwatched: map[string]time.Time{},
		claims: map[string]*pluginv1.Claim{}, subscriptions: map[string]*pluginv1.Subscription{},
		told: map[string]told{}, sequences: map[string]uint64{},
	}
	for _, expr := range about.GetServes() {
		re, err := regexp.Compile("^(?:" + expr + ")$")
		if err != nil {
			return nil, fmt.Errorf("serves: %w", err)
		}
		s.serves = append(s.serves, re)
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.stream, err = l.client.Run(ctx, grpc.MaxCallRecvMsgSize(plugin.MaxMessage))
	if err != nil {
		s.cancel()
		return nil, l.explain("Run", err, o)
	}
	go s.read()
	return s, nil
}

// end ends the session and the process, and returns what was wrong with the messages.
func (s *session) end() []string {
	s.cancel()
	<-s.done
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.texts
}

// read takes what the source says until the stream's end.
func (s *session) read() {
	defer close(s.done)
	for {
		m, err := s.stream.Recv()
		s.mu.Lock()
		if err != nil {
			s.err = err
			if status.Code(err) == codes.ResourceExhausted {
				s.faults.add("size", "a message may have 1 MiB: %v", err)
			}
		} else {
			s.take(m)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take judges a message and remembers it. The caller holds mu.
func (s *session) take(m *pluginv1.SourceMessage) {
	if c := m.GetConnector(); c != nil {
		s.judgeConnector(c)
		s.connector = c
	}
	for _, sub := range m.GetSubscriptions() {
		s.judgeSubscription(sub)
		p := sub.GetPresentity()
		s.subscriptions[p] = sub
		s.told[p] = told{s.told[p].claims, s.told[p].subscriptions + 1}
	}
	for _, c := range m.GetClaims() {
		s.judgeClaim(c)
		if len(s.told) > most {
			s.faults.add("flood", "a source must speak of those that it was asked for: it has spoken of %d presentities", len(s.told))
			return
		}
		p := c.GetPresentity()
		s.claims[p] = c
		s.told[p] = told{s.told[p].claims + 1, s.told[p].subscriptions}
	}
}

// wait waits until ok, which is called with mu held, is true; false: it never was.
func (s *session) wait(ctx context.Context, most time.Duration, ok func() bool) bool {
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		is, changed := ok(), s.changed
		s.mu.Unlock()
		if is {
			return true
		}
		select {
		case <-changed:
		case <-s.done:
			s.mu.Lock()
			defer s.mu.Unlock()
			return ok()
		case <-ctx.Done():
			return false
		case <-timeout.C:
			return false
		}
	}
}

// watch asks for presentities, as many at a time as the source takes.
func (s *session) watch(presentities ...string) error {
	s.mu.Lock()
	for _, p := range presentities {
		s.watched[p] = true
		delete(s.unwatched, p)
	}
	s.mu.Unlock()
	batch := max(1, int(s.about.GetBatch()))
	for len(presentities) > 0 {
		n := min(batch, len(presentities))
		m := &pluginv1.HostMessage{}
		for _, p := range presentities[:n] {
			m.Watch = append(m.Watch, &pluginv1.Target{Presentity: p})
		}
		if err := s.send(m); err != nil {
			return err
		}
		presentities = presentities[n:]
	}
	return nil
}

func (s *session) unwatch(presentities ...string) error {
	s.mu.Lock()
	for _, p := range presentities {
		if s.watched[p] {
			s.unwatched[p] = time.Now()
		}
	}
	s.mu.Unlock()
	return s.send(&pluginv1.HostMessage{Unwatch: presentities})
}

// send sends a message. Its error is the stream's end.
func (s *session) send(m *pluginv1.HostMessage) error {
	if s.stream.Send(m) == nil {
		return nil
	}
	<-s.done
	return s.ended()
}

// ended says how the stream ended, nil if it goes on.
func (s *session) ended() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	words := ""
	if s.proc != nil {
		select { // its last words come after the stream's end
		case <-s.proc.exited:
		case <-time.After(time.Second):
		}
		words = s.proc.lastWords()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, io.EOF) {
		return fmt.Errorf("the source has ended its stream%s", words)
	}
	return fmt.Errorf("the stream has broken: %w%s", s.err, words)
}
