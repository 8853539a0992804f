package pluginhost

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/busylamp/busylamp"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// TestState: every availability with every activity that matters, in the spellings of RFC
// 4480 and of Microsoft Graph.
func TestState(t *testing.T) {
	const (
		offline   = pluginv1.Availability_AVAILABILITY_OFFLINE
		available = pluginv1.Availability_AVAILABILITY_AVAILABLE
		away      = pluginv1.Availability_AVAILABILITY_AWAY
		isBusy    = pluginv1.Availability_AVAILABILITY_BUSY
		dnd       = pluginv1.Availability_AVAILABILITY_DO_NOT_DISTURB
	)
	for _, c := range []struct {
		a    pluginv1.Availability
		does string
		want busylamp.State
	}{
		{0, "", busylamp.Unknown}, {0, "on-the-phone", busylamp.Unknown},
		{offline, "", busylamp.Offline}, {offline, "OffWork", busylamp.Offline}, {offline, "presenting", busylamp.Offline},
		{available, "", busylamp.Available}, {available, "AvailableIdle", busylamp.Available}, {available, "meeting", busylamp.Available},
		{available, "ringing", busylamp.Ringing}, {available, "be-right-back", busylamp.Away},
		{away, "", busylamp.Away}, {away, "BeRightBack", busylamp.Away}, {away, "off-work", busylamp.Away}, {away, "on-the-phone", busylamp.Away},
		{isBusy, "", busylamp.Busy}, {isBusy, "BusyIdle", busylamp.Busy}, {isBusy, "juggling", busylamp.Busy}, {isBusy, "away", busylamp.Busy},
		{isBusy, "on-the-phone", busylamp.OnThePhone}, {isBusy, "InACall", busylamp.OnThePhone}, {isBusy, "inACall", busylamp.OnThePhone},
		{isBusy, "on_the phone", busylamp.OnThePhone},
		{isBusy, "meeting", busylamp.Meeting}, {isBusy, "InAMeeting", busylamp.Meeting}, {isBusy, "in-a-meeting", busylamp.Meeting},
		{isBusy, "InAConferenceCall", busylamp.Meeting}, {isBusy, "calendar", busylamp.Meeting}, {isBusy, "appointment", busylamp.Meeting},
		{isBusy, "ringing", busylamp.Ringing}, {isBusy, "Presenting", busylamp.Presenting}, {isBusy, strings.Repeat("meeting", 100), busylamp.Busy},
		{dnd, "", busylamp.DoNotDisturb}, {dnd, "on-the-phone", busylamp.DoNotDisturb}, {dnd, "UrgentInterruptionsOnly", busylamp.DoNotDisturb},
		{dnd, "presenting", busylamp.Presenting},
	} {
		if got, ok := state(c.a, c.does); !ok || got != c.want {
			t.Errorf("%v, %q: %v, %v, want %v", c.a, c.does, got, ok, c.want)
		}
	}
	for _, a := range []pluginv1.Availability{6, -1, 1 << 30} {
		if got, ok := state(a, ""); ok {
			t.Errorf("availability %d is %v", a, got)
		}
	}
}

// newTranslator returns one that serves example.com, and what it warned of.
func newTranslator() (*translator, *[]string) {
	var warned []string
	t := &translator{ignored: new(atomic.Uint64), warn: func(s string) { warned = append(warned, s) },
		speaksFor: func(p busylamp.Presentity) bool { return p.Domain() == "example.com" }}
	return t, &warned
}

// TestStatement: a claim's parts arrive, in bounds.
func TestStatement(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	const isBusy = pluginv1.Availability_AVAILABILITY_BUSY
	long := strings.Repeat("ü", 1000)
	for _, c := range []struct {
		name  string
		claim *pluginv1.Claim
		want  busylamp.Statement
	}{
		{"all of it", &pluginv1.Claim{Presentity: "SIP:alice@Example.com;x=y", Availability: isBusy, Activity: "on-the-phone", Note: "with bob",
			Device: "desk", OutOfOffice: true, Forward: &pluginv1.Forward{Kind: pluginv1.Forward_KIND_NUMBER, Target: "+31"}, Since: at(-time.Minute),
			Until: at(time.Hour), Sequence: 7, Telephony: true},
			busylamp.Statement{Presentity: alice, State: busylamp.OnThePhone, Age: time.Minute, For: time.Hour, Sequence: 7, Telephony: true,
				Details: busylamp.Details{Activity: "on-the-phone", Note: "with bob", Device: "desk", OutOfOffice: true, Forward: busylamp.ToNumber, ForwardedTo: "+31"}}},
		{"a past until", &pluginv1.Claim{Availability: isBusy, Until: at(-time.Second)}, busylamp.Statement{State: busylamp.Unknown}},
		{"until now", &pluginv1.Claim{Availability: isBusy, Until: at(0)}, busylamp.Statement{State: busylamp.Unknown}},
		{"a late until", &pluginv1.Claim{Availability: isBusy, Until: at(100 * time.Hour)}, busylamp.Statement{State: busylamp.Busy, For: 24 * time.Hour}},
		{"a wrong until", &pluginv1.Claim{Availability: isBusy, Until: &timestamppb.Timestamp{Seconds: 1 << 60, Nanos: -5}}, busylamp.Statement{State: busylamp.Busy}},
		{"a future since", &pluginv1.Claim{Availability: isBusy, Since: at(time.Hour)}, busylamp.Statement{State: busylamp.Busy}},
		{"an old since", &pluginv1.Claim{Availability: isBusy, Since: timestamppb.New(time.Time{})}, busylamp.Statement{State: busylamp.Busy, Age: maxAge}},
		{"voice mail", &pluginv1.Claim{Availability: isBusy, Forward: &pluginv1.Forward{Kind: pluginv1.Forward_KIND_VOICE_MAIL}},
			busylamp.Statement{State: busylamp.Busy, Details: busylamp.Details{Forward: busylamp.ToVoiceMail}}},
		{"an unknown forward", &pluginv1.Claim{Availability: isBusy, Forward: &pluginv1.Forward{Kind: 9, Target: "x"}}, busylamp.Statement{State: busylamp.Busy}},
		{"no forward", &pluginv1.Claim{Availability: isBusy, Forward: &pluginv1.Forward{Target: "x"}}, busylamp.Statement{State: busylamp.Busy}},
		{"dirty texts", &pluginv1.Claim{Availability: isBusy, Note: "a\r\nb\x00\u202ec", Device: long},
			busylamp.Statement{State: busylamp.Busy, Details: busylamp.Details{Note: "a  bc", Device: long[:256]}}},
	} {
		tr, _ := newTranslator()
		if c.claim.Presentity == "" {
			c.claim.Presentity = "sip:alice@example.com"
		}
		c.want.Presentity = alice
		got, ok := tr.statement(c.claim, now)
		if !ok || got != c.want {
			t.Errorf("%s: %v\n got %+v\nwant %+v", c.name, ok, got, c.want)
		}
	}
}

// TestIgnored: what cannot be taken is left out, counted, and told once; the rest arrives.
func TestIgnored(t *testing.T) {
	tr, warned := newTranslator()
	rs := tr.reports(&pluginv1.SourceMessage{
		Connector: &pluginv1.Connector{State: 99, Reason: "x"},
		Claims: []*pluginv1.Claim{
			{Presentity: "alice"}, {Presentity: "sip:alice@example.org"}, nil,
			{Presentity: "sip:alice@example.com", Availability: 77},
			{Presentity: "sip:alice@example.com", Availability: pluginv1.Availability_AVAILABILITY_AWAY},
		},
		Subscriptions: []*pluginv1.Subscription{
			{Presentity: "sip:alice@example.com", State: 99}, {Presentity: "sip:alice@example.com"}, {State: pluginv1.Subscription_STATE_ACTIVE},
			{Presentity: "sip:alice@example.com", State: pluginv1.Subscription_STATE_TERMINATED, RetryAfter: durationpb.New(-time.Hour)},
			{Presentity: "sip:bob@example.com", State: pluginv1.Subscription_STATE_ERROR, RetryAfter: durationpb.New(1000 * time.Hour), Reason: "no\nway"},
		},
	}, time.Now())
	if len(rs) != 1 || len(rs[0].Statements) != 1 || rs[0].Connector != 0 || len(rs[0].Subscriptions) != 2 || rs[0].Statements[0].State != busylamp.Away {
		t.Fatalf("%+v", rs)
	}
	if s := rs[0].Subscriptions; s[0].State != busylamp.Terminated || s[0].RetryAfter != 0 ||
		s[1].State != busylamp.SubscriptionError || s[1].RetryAfter != 24*time.Hour || s[1].Reason != "no way" {
		t.Errorf("%+v", s)
	}
	if n := tr.ignored.Load(); n != 8 || len(*warned) != 1 || !strings.Contains((*warned)[0], "a connector's state 99") {
		t.Errorf("%d ignored, warned of %q", n, *warned)
	}
}

// TestSlices: a big message makes reports that the engine can take one at a time, in order.
func TestSlices(t *testing.T) {
	tr, _ := newTranslator()
	m := &pluginv1.SourceMessage{Connector: &pluginv1.Connector{State: pluginv1.Connector_STATE_FORBIDDEN, Reason: "why"}}
	for i := range 1000 {
		m.Claims = append(m.Claims, &pluginv1.Claim{Presentity: "sip:alice@example.com", Sequence: uint64(i)})
		m.Subscriptions = append(m.Subscriptions, &pluginv1.Subscription{Presentity: "sip:alice@example.com", State: pluginv1.Subscription_STATE_ACTIVE})
	}
	var next uint64
	subs := 0
	for i, r := range tr.reports(m, time.Now()) {
		if (i == 0) != (r.Connector == busylamp.Forbidden) || len(r.Statements) > maxStated || len(r.Subscriptions) > maxStated {
			t.Errorf("report %d: %v, %d, %d", i, r.Connector, len(r.Statements), len(r.Subscriptions))
		}
		for _, s := range r.Statements {
			if s.Sequence != next {
				t.Fatalf("%d after %d", s.Sequence, next)
			}
			next++
		}
		subs += len(r.Subscriptions)
	}
	if next != 1000 || subs != 1000 {
		t.Errorf("%d statements, %d subscriptions", next, subs)
	}
	if rs := tr.reports(&pluginv1.SourceMessage{}, time.Now()); rs != nil {
		t.Errorf("of nothing: %+v", rs)
	}
}

// FuzzMessage: no message panics, and what comes of it is in bounds.
func FuzzMessage(f *testing.F) {
	seed, err := proto.Marshal(&pluginv1.SourceMessage{
		Claims:        []*pluginv1.Claim{{Presentity: "sip:a@example.com", Availability: 4, Activity: "x", Until: timestamppb.Now(), Forward: &pluginv1.Forward{Kind: 2}}},
		Subscriptions: []*pluginv1.Subscription{{Presentity: "sip:a@example.com", State: 2, RetryAfter: durationpb.New(5)}},
		Connector:     &pluginv1.Connector{State: 1},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &pluginv1.SourceMessage{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		tr, _ := newTranslator()
		for _, r := range tr.reports(m, time.Now()) {
			for _, s := range r.Statements {
				if s.For < 0 || s.For > maxLapse || s.Age < 0 || len(s.Details.Note) > maxText || !utf8.ValidString(s.Details.Note) || s.Presentity.Domain() != "example.com" {
					t.Fatalf("%+v", s)
				}
			}
		}
	})
}

// TestBucket: the rate holds in the long run, a burst passes, what was asked for is free, and
// only a flood that goes on counts as one.
func TestBucket(t *testing.T) {
	start := time.Unix(0, 0)
	now := start
	b := newBucket(100, 1000, now)
	taken := 0
	for taken < 11_000 {
		now = now.Add(b.take(10, now))
		taken += 10
	}
	if d := now.Sub(start); d < 99*time.Second || d > 101*time.Second {
		t.Errorf("11,000 at 100/s and 1,000 at once took %v", d)
	}
	if w := b.wanting(now); w < 98*time.Second {
		t.Errorf("it has been wanting for %v", w)
	}
	now = now.Add(100 * time.Millisecond)
	if b.take(0, now); b.wanting(now) == 0 {
		t.Error("a tenth of a second of quiet ends a flood")
	}
	now = now.Add(2 * time.Second)
	if b.take(0, now); b.wanting(now) != 0 {
		t.Error("two seconds of quiet do not end a flood")
	}
	b.grant(20_000)
	if d := b.take(20_100, now); d != 0 {
		t.Errorf("what was granted takes %v", d)
	}
	if now = now.Add(time.Hour); b.take(1000, now) != 0 || b.take(1, now) == 0 {
		t.Error("the burst is not 1,000 after an hour")
	}
}
