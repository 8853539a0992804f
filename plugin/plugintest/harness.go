package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// Host plays the host to a source within a test.
type Host struct {
	// Timeout is how long Next… waits before it fails the test: 5 s unless it is changed.
	Timeout time.Duration
	// Endpoints are what the source offers, in its order.
	Endpoints []string

	t             testing.TB
	link          *link
	stream        pluginv1.Source_RunClient
	cancel        context.CancelFunc
	claims        chan plugin.Claim
	subscriptions chan plugin.Subscription
	connectors    chan plugin.Connector
	done          chan struct{}
	err           error // how Run ended; to be read after done
}

// kept is how much of each kind waits for the test before the source must wait.
const kept = 4096

// Configure gives a source a section of the configuration, of what JSON can hold, and returns
// what it finds wrong: [plugin.Problem]s, joined.
func Configure(t testing.TB, source plugin.Source, config any) error {
	t.Helper()
	l := mustLink(t, source)
	defer l.close()
	_, err := configureLink(t, l, config)
	return err
}

// Start configures a source, which must accept it, and lets it run until the test ends.
func Start(t testing.TB, source plugin.Source, config any) *Host {
	t.Helper()
	l := mustLink(t, source)
	endpoints, err := configureLink(t, l, config)
	if err != nil {
		l.close()
		t.Fatalf("the source refuses its configuration: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := l.client.Run(ctx)
	if err != nil {
		cancel()
		l.close()
		t.Fatalf("Run: %v", err)
	}
	h := &Host{
		Timeout: 5 * time.Second, Endpoints: endpoints,
		t: t, link: l, stream: stream, cancel: cancel, done: make(chan struct{}),
		claims: make(chan plugin.Claim, kept), subscriptions: make(chan plugin.Subscription, kept),
		connectors: make(chan plugin.Connector, kept),
	}
	go h.read(ctx)
	t.Cleanup(func() { _ = h.Stop() })
	return h
}

func mustLink(t testing.TB, source plugin.Source) *link {
	t.Helper()
	l, err := within(source)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func configureLink(t testing.TB, l *link, config any) ([]string, error) {
	t.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatalf("the configuration: %v", err)
	}
	r, err := l.client.Configure(context.Background(), &pluginv1.ConfigureRequest{Config: string(b), Name: "test"})
	if err != nil {
		t.Fatalf("Configure: %v", err)
	}
	problems := make([]error, 0, len(r.GetProblems()))
	for _, p := range r.GetProblems() {
		problems = append(problems, plugin.Problem{Key: p.GetKey(), Text: p.GetText()})
	}
	return r.GetEndpoints(), errors.Join(problems...)
}

// read sorts what the source says, until the stream's end.
func (h *Host) read(ctx context.Context) {
	defer close(h.done)
	for {
		m, err := h.stream.Recv()
		if err != nil {
			h.err = err
			return
		}
		if c := m.GetConnector(); c != nil {
			give(ctx, h.connectors, plugin.Connector{State: plugin.ConnectorState(c.GetState()), Reason: c.GetReason()})
		}
		for _, s := range m.GetSubscriptions() {
			give(ctx, h.subscriptions, plugin.Subscription{
				Presentity: s.GetPresentity(), State: plugin.SubscriptionState(s.GetState()),
				Reason: s.GetReason(), RetryAfter: s.GetRetryAfter().AsDuration(),
			})
		}
		for _, c := range m.GetClaims() {
			give(ctx, h.claims, claimIn(c))
		}
	}
}

func give[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

func claimIn(c *pluginv1.Claim) plugin.Claim {
	out := plugin.Claim{
		Presentity: c.GetPresentity(), Availability: plugin.Availability(c.GetAvailability()),
		Activity: c.GetActivity(), Note: c.GetNote(), Device: c.GetDevice(), OutOfOffice: c.GetOutOfOffice(),
		Forward: plugin.Forward(c.GetForward().GetKind()), ForwardedTo: c.GetForward().GetTarget(),
		Sequence: c.GetSequence(), Telephony: c.GetTelephony(),
	}
	if c.GetSince() != nil {
		out.Since = c.GetSince().AsTime()
	}
	if c.GetUntil() != nil {
		out.Until = c.GetUntil().AsTime()
	}
	return out
}

// Watch asks the source to watch presentities.
func (h *Host) Watch(presentities ...string) {
	h.t.Helper()
	targets := make([]plugin.Target, 0, len(presentities))
	for _, p := range presentities {
		targets = append(targets, plugin.Target{Presentity: p})
	}
	h.WatchTargets(targets...)
}

// WatchTargets is Watch with endpoints and user principal names.
func (h *Host) WatchTargets(targets ...plugin.Target) {
	h.t.Helper()
	m := &pluginv1.HostMessage{}
	for _, t := range targets {
		m.Watch = append(m.Watch, &pluginv1.Target{Presentity: t.Presentity, Endpoint: uint32(t.Endpoint), Upn: t.UPN})
	}
	h.send(m)
}

// Unwatch ends the watching of presentities.
func (h *Host) Unwatch(presentities ...string) {
	h.t.Helper()
	h.send(&pluginv1.HostMessage{Unwatch: presentities})
}

func (h *Host) send(m *pluginv1.HostMessage) {
	h.t.Helper()
	if err := h.stream.Send(m); err != nil {
		<-h.done
		h.t.Fatalf("the source runs no more: %v", h.err)
	}
}

// NextClaim returns the source's next claim, in the order in which it came.
func (h *Host) NextClaim() plugin.Claim { h.t.Helper(); return next(h, h.claims, "claim") }

// NextSubscription returns the source's next word on a subscription.
func (h *Host) NextSubscription() plugin.Subscription {
	h.t.Helper()
	return next(h, h.subscriptions, "subscription")
}

// NextConnector returns the source's next word on its connector.
func (h *Host) NextConnector() plugin.Connector {
	h.t.Helper()
	return next(h, h.connectors, "connector")
}

func next[T any](h *Host, from <-chan T, what string) T {
	h.t.Helper()
	timeout := time.NewTimer(h.Timeout)
	defer timeout.Stop()
	select {
	case v := <-from:
		return v
	case <-timeout.C:
		h.t.Fatalf("no %s came within %s", what, h.Timeout)
	case <-h.done:
		select {
		case v := <-from:
			return v
		default:
		}
		h.t.Fatalf("no %s came before the source ended: %v", what, h.err)
	}
	panic("unreachable")
}

// Quiet fails the test if a claim comes within d.
func (h *Host) Quiet(d time.Duration) {
	h.t.Helper()
	select {
	case c := <-h.claims:
		h.t.Fatalf("a claim came: %+v", c)
	case <-time.After(d):
	}
}

// Done is closed when the source runs no more.
func (h *Host) Done() <-chan struct{} { return h.done }

// Stop ends the source's Run and returns its error; it can be called again.
func (h *Host) Stop() error {
	_ = h.stream.CloseSend()
	select {
	case <-h.done:
	case <-time.After(h.Timeout):
		h.cancel()
		<-h.done
	}
	h.cancel()
	h.link.close()
	if s, ok := status.FromError(h.err); ok && s.Code() != codes.OK {
		return errors.New(s.Message())
	}
	return nil
}
