package busylamp

import (
	"maps"
	"time"
)

// Stats counts what an engine has seen and done. Counters only grow; the last group are
// readings.
type Stats struct {
	Events   uint64 // call events taken
	Late     uint64 // events that changed nothing: doubled, overtaken, or of the dead
	BadURI   uint64 // parties whose URI cannot be a presentity
	Foreign  uint64 // parties that we do not publish for
	Overflow uint64 // calls or tombstones over a limit

	Doubts        uint64
	NewEpochs     uint64
	Resyncs       uint64
	ResyncsFailed uint64
	Drift         [driftKinds]uint64 // by Drift
	Changes       uint64             // of a presence
	Watches       uint64             // presentities that sources were asked for

	Calls      int
	People     int
	Publishers []PublisherStats // in the order of Config.Publishers
}

// PublisherStats counts what one publisher has done.
type PublisherStats struct {
	Requests [Remove + 1][Refused + 1]uint64 // answered, by Kind and Result
	Codes    map[int]uint64                  // by SIP status code, 0 for no answer

	InFlight int           // requests that are unanswered
	Waiting  int           // publications that wait for their turn
	Down     bool          // the server is silent, or said that it cannot serve: it is only probed
	Trouble  string        // what was last told of it, "" when it is well
	Refused  int           // publications whose last request was refused
	Expires  time.Duration // the lifetime that is asked for: the configured one, or the server's minimum
}

// Stats returns the present figures.
func (e *Engine) Stats() Stats {
	s := e.stats
	s.People = len(e.people)
	for _, p := range e.publishers {
		s.Publishers = append(s.Publishers, p.snapshot())
	}
	return s
}

// count notes one outcome. A code outside of SIP's range is an adapter's fault, and counts
// as no answer.
func (p *publisher) count(r Request, o Outcome) {
	p.requests[r.Kind][o.Result]++
	if o.Code < 100 || o.Code > 699 {
		o.Code = 0
	}
	p.codes[o.Code]++
}

func (p *publisher) snapshot() PublisherStats {
	return PublisherStats{Requests: p.requests, Codes: maps.Clone(p.codes), InFlight: p.inFlight,
		Waiting: p.waiting(), Down: p.circuit.down, Trouble: p.trouble, Refused: p.refused, Expires: p.asks(p.expires)}
}

// ProxyStatus is what the engine knows of a proxy's standing.
type ProxyStatus struct {
	Name      string
	Connected bool
	InStep    bool // connected, its list agreed with ours since the last doubt, and audits do not fail
	Calls     int
	Resync    string // what the last resync was for
}

// ProxyStatuses returns the standing of every proxy.
func (e *Engine) ProxyStatuses() []ProxyStatus {
	out := make([]ProxyStatus, len(e.proxies))
	for i, p := range e.proxies {
		out[i] = ProxyStatus{Name: p.name, Connected: p.connected, InStep: p.connected && p.resync.inStep && p.resync.tries < failedAudits,
			Calls: len(p.calls) + len(p.former), Resync: p.resync.cause}
	}
	return out
}

// View is one presentity for people to look at. Ages are relative to now.
type View struct {
	Presentity   Presentity
	State        State
	Source       string
	Age          time.Duration // how long it has been in this state
	Calls, Early int
	// Telephony and Rich are the two halves of State: what phones do, and what people chose.
	Telephony, Rich State
	Endpoint        bool
	Watchers        []string // who asks for it
	Sources         []SourceView
	Publications    []PublicationView
}

// SourceView is what one source says of a presentity, and how the watching goes.
type SourceView struct {
	Source    string
	Status    string // of the subscription, in words; "" if there is none
	Reason    string // why, "" if there is nothing to say
	State     State  // Unknown: it says nothing
	Echo      bool   // taken for our own word, and not heard
	Details   Details
	Age       time.Duration // of the state
	LapsesIn  time.Duration // 0: never
	RetriesIn time.Duration // 0: not
	Failures  int           // in a row
	GaveUp    bool          // after so many
}

// PublicationView is one publication for people to look at.
type PublicationView struct {
	Publisher   string
	Has         State
	Tag         string
	ExpiresIn   time.Duration
	Outstanding string
	Attempts    int
	LastCode    int
	LastReason  string
}

// View returns one presentity.
func (e *Engine) View(uri Presentity) (View, bool) {
	who := e.byURI[uri]
	if who == nil {
		return View{}, false
	}
	return e.view(who), true
}

// CallView is one call for people to look at.
type CallView struct {
	Proxy  string
	Dialog DialogID
	CallID string
	Stage  Stage
	Age    time.Duration // since we learned of the stage
}

// CallsOf returns up to limit calls of one presentity. It looks at all calls: it is for
// people who ask why a lamp is lit.
func (e *Engine) CallsOf(uri Presentity, limit int) []CallView {
	who := e.byURI[uri]
	if who == nil || who.confirmed+who.early == 0 {
		return nil
	}
	var out []CallView
	look := func(p *proxy, c *call) {
		if len(out) < limit && (c.caller == who || c.callee == who) {
			out = append(out, CallView{Proxy: p.name, Dialog: c.dialog, CallID: c.callID, Stage: c.stage, Age: e.now - c.since})
		}
	}
	for _, p := range e.proxies {
		for _, c := range p.former {
			look(p, c)
		}
		for _, c := range p.calls {
			look(p, c)
		}
	}
	return out
}

// Views returns up to limit presentities from a place on. Places shift as people come
// and go: it is for looking, not for counting.
func (e *Engine) Views(from, limit int) []View {
	var out []View
	for i := max(from, 0); i < len(e.people) && len(out) < limit; i++ {
		out = append(out, e.view(e.people[i]))
	}
	return out
}

func (who *person) watcherNames() (names []string) {
	for _, w := range who.watchers {
		names = append(names, w.name)
	}
	return names
}

func (who *person) sourceViews(e *Engine) (out []SourceView) {
	for _, src := range e.sources {
		s, c := who.subscriptionTo(src), who.claimOf(src.Name)
		if s == nil && c == nil {
			continue
		}
		v := SourceView{Source: src.Name}
		if s != nil {
			v.Status, v.Reason, v.Failures, v.GaveUp = s.word(), s.reason, int(s.failures), s.gaveUp
			if s.state != Requesting && s.wakeAt != 0 {
				v.RetriesIn = s.notBefore - e.now
			}
		}
		if c != nil {
			v.State, v.Echo, v.Age, v.LapsesIn = c.State, c.echo, e.now-c.Since, c.Until-e.now
			if c.details != nil {
				v.Details = *c.details
			}
		}
		out = append(out, v)
	}
	return out
}

func (e *Engine) view(who *person) View {
	v := View{Presentity: who.uri, State: who.presence.State, Source: who.presence.Source,
		Age: e.now - who.presence.Since, Calls: int(who.confirmed), Early: int(who.early),
		Telephony: e.rules.fold(who, e.now, telephony).State, Rich: e.rules.fold(who, e.now, rich).State,
		Endpoint: who.endpoint != nil, Watchers: who.watcherNames(), Sources: who.sourceViews(e)}
	for i := range who.pubs {
		p := &who.pubs[i]
		pv := PublicationView{Publisher: p.publisher.name, Has: p.has, Tag: p.tag, Attempts: int(p.attempts),
			Outstanding: p.outstanding.String(), LastCode: int(p.lastCode), LastReason: p.lastReason}
		if p.has != Unknown {
			pv.ExpiresIn = p.expires - e.now
		}
		v.Publications = append(v.Publications, pv)
	}
	return v
}
