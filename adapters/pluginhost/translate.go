package pluginhost

import (
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/busylamp/busylamp"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// translator makes the core's words of a plugin's. What it cannot take it leaves out, counts,
// and tells once: the rest of a message is as good as without it.
type translator struct {
	speaksFor func(busylamp.Presentity) bool
	warn      func(why string)
	ignored   *atomic.Uint64
	told      bool
}

func (t *translator) ignore(format string, args ...any) {
	t.ignored.Add(1)
	if !t.told {
		t.told = true
		t.warn(fmt.Sprintf(format, args...))
	}
}

// reports makes reports of at most maxStated parts each of a message.
func (t *translator) reports(m *pluginv1.SourceMessage, now time.Time) []busylamp.SourceReport {
	var out []busylamp.SourceReport
	var r busylamp.SourceReport
	if c := m.GetConnector(); c != nil {
		if s, ok := connectors[c.GetState()]; ok {
			r.Connector, r.Reason = s, clean(c.GetReason(), maxText)
		} else {
			t.ignore("a connector's state %d, which this version of the contract does not have", c.GetState())
		}
	}
	flush := func() {
		if r.Connector != 0 || len(r.Subscriptions)+len(r.Statements) > 0 {
			out = append(out, r)
		}
		r = busylamp.SourceReport{}
	}
	for _, s := range m.GetSubscriptions() {
		if sub, ok := t.subscription(s); ok {
			if r.Subscriptions = append(r.Subscriptions, sub); len(r.Subscriptions) == maxStated {
				flush()
			}
		}
	}
	for _, c := range m.GetClaims() {
		if st, ok := t.statement(c, now); ok {
			if r.Statements = append(r.Statements, st); len(r.Statements) == maxStated {
				flush()
			}
		}
	}
	flush()
	return out
}

var connectors = map[pluginv1.Connector_State]busylamp.ConnectorState{
	pluginv1.Connector_STATE_UP:                    busylamp.ConnectorUp,
	pluginv1.Connector_STATE_NOT_CONFIGURED:        busylamp.ServerNotConfigured,
	pluginv1.Connector_STATE_DISABLED:              busylamp.Disabled,
	pluginv1.Connector_STATE_FORBIDDEN:             busylamp.Forbidden,
	pluginv1.Connector_STATE_CONNECTION_ERROR:      busylamp.ConnectionError,
	pluginv1.Connector_STATE_CREDENTIALS_NOT_FOUND: busylamp.CredentialsNotFound,
}

var subscriptions = map[pluginv1.Subscription_State]busylamp.SubscriptionState{
	pluginv1.Subscription_STATE_REQUESTING:    busylamp.Requesting,
	pluginv1.Subscription_STATE_ACTIVE:        busylamp.Subscribed,
	pluginv1.Subscription_STATE_TERMINATED:    busylamp.Terminated,
	pluginv1.Subscription_STATE_ACCESS_DENIED: busylamp.AccessDenied,
	pluginv1.Subscription_STATE_NOT_FOUND:     busylamp.NotFound,
	pluginv1.Subscription_STATE_ERROR:         busylamp.SubscriptionError,
}

// subscription returns how the watching of somebody goes.
func (t *translator) subscription(s *pluginv1.Subscription) (out busylamp.SubscriptionReport, ok bool) {
	state, ok := subscriptions[s.GetState()]
	if !ok {
		t.ignore("a subscription's state %d, which this version of the contract does not have", s.GetState())
		return out, false
	}
	who, ok := t.presentity(s.GetPresentity())
	if !ok {
		return out, false
	}
	out = busylamp.SubscriptionReport{Presentity: who, State: state, Reason: clean(s.GetReason(), maxText)}
	if d := s.GetRetryAfter(); d != nil {
		if d.CheckValid() != nil {
			t.ignore("a retry_after of %s that is no duration", who)
		} else {
			out.RetryAfter = min(max(d.AsDuration(), 0), maxLapse)
		}
	}
	return out, true
}

// statement returns what a claim states.
func (t *translator) statement(c *pluginv1.Claim, now time.Time) (out busylamp.Statement, ok bool) {
	who, ok := t.presentity(c.GetPresentity())
	if !ok {
		return out, false
	}
	s, ok := state(c.GetAvailability(), c.GetActivity())
	if !ok {
		t.ignore("the availability %d of %s, which this version of the contract does not have", c.GetAvailability(), who)
		return out, false
	}
	out = busylamp.Statement{Presentity: who, State: s, Sequence: c.GetSequence(), Telephony: c.GetTelephony(),
		Details: busylamp.Details{Activity: clean(c.GetActivity(), maxText), Note: clean(c.GetNote(), maxText),
			Device: clean(c.GetDevice(), maxText), OutOfOffice: c.GetOutOfOffice()}}
	if since, ok := t.moment("since", who, c.GetSince()); ok {
		out.Age = min(max(now.Sub(since), 0), maxAge)
	}
	if until, ok := t.moment("until", who, c.GetUntil()); ok {
		if out.For = min(until.Sub(now), maxLapse); out.For <= 0 {
			out.State, out.For = busylamp.Unknown, 0
		}
	}
	t.forward(c.GetForward(), &out)
	return out, true
}

func (t *translator) forward(f *pluginv1.Forward, out *busylamp.Statement) {
	switch f.GetKind() {
	case pluginv1.Forward_KIND_UNSPECIFIED:
	case pluginv1.Forward_KIND_VOICE_MAIL:
		out.Details.Forward = busylamp.ToVoiceMail
	case pluginv1.Forward_KIND_NUMBER:
		out.Details.Forward = busylamp.ToNumber
	default:
		t.ignore("a kind of forward %d of %s, which this version of the contract does not have", f.GetKind(), out.Presentity)
		return
	}
	if out.Details.Forward != busylamp.NotForwarded {
		out.Details.ForwardedTo = clean(f.GetTarget(), maxText)
	}
}

// moment returns a time, if there is one.
func (t *translator) moment(key string, who busylamp.Presentity, ts *timestamppb.Timestamp) (time.Time, bool) {
	if ts == nil {
		return time.Time{}, false
	}
	if err := ts.CheckValid(); err != nil {
		t.ignore("the %s of %s is no time", key, who)
		return time.Time{}, false
	}
	return ts.AsTime(), true
}

// presentity takes a URI that the source said it serves.
func (t *translator) presentity(uri string) (busylamp.Presentity, bool) {
	who, err := busylamp.ParsePresentity(uri)
	switch {
	case err != nil:
		t.ignore("%s", clean(err.Error(), maxText))
	case !t.speaksFor(who):
		t.ignore("%s is none of those that the source says it serves", who)
	default:
		return who, true
	}
	return "", false
}
