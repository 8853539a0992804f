package busylamp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Sides tells whose presence a call changes.
type Sides uint8

// The sides of a call.
const (
	SideCaller Sides = 1 << iota
	SideCallee
	SideBoth = SideCaller | SideCallee
)

// Config is what an engine needs to know. Zero values get the defaults named.
type Config struct {
	Proxies    []string // names
	Publishers []PublisherConfig
	Directory  Directory
	Sides      Sides         // both
	Early      bool          // an early dialog makes somebody busy, too
	Audit      time.Duration // how often every proxy is compared with its list: 5 minutes
	Hold       time.Duration // how long the calls of an unreachable proxy are kept: 1 hour
	MaxCalls   int           // a proxy's calls at most: 2,000,000
	Seed       uint64        // for jitter
	Durable    bool          // Work.Store is wanted

	Sources   []SourceConfig
	Endpoints []EndpointConfig
	// Speaks names the sources that are heard of a presentity, "calls" for the built-in one;
	// nil: every source of everybody.
	Speaks     func(Presentity) []string
	UPN        func(Presentity) string // user principal names, "" for none; may be nil
	Preferred  string                  // a source: where it says something, other sources but the built-in ones are not heard
	Precedence Precedence              // DefaultPrecedence
	Shown      map[State]State         // what a state is published as, where it is not itself; Unknown: nothing
}

// PublisherConfig is what the engine needs to know of a publisher.
type PublisherConfig struct {
	Name    string
	Expires time.Duration // the lifetime to ask for: 600 s
	// InitialExpires is the lifetime to ask for in a publication's first request, whose
	// loss can leave an orphan for so long: Expires.
	InitialExpires time.Duration
	Max            int                   // requests outstanding at most: 256
	Rate           float64               // requests per second at most: no limit
	Wants          func(Presentity) bool // whose presence is published here: everybody's
	// NoSentinel does without the refreshes that find a server which lost its table.
	NoSentinel bool
	// Part is what is published: everything, or one half of it where they are kept apart.
	Part Part
	// SeenAs is as what else somebody who reads a state at the server may read it, where the
	// document does not say it all; nil: as itself alone.
	SeenAs func(State) State
}

// Part is a half of a presence.
type Part uint8

// The parts of a presence.
const (
	Everything Part = iota
	TelephonyOnly
	RichOnly
)

// Engine is the core: a state machine whose inputs are method calls and time, and whose
// outputs are [Work]. It does no I/O, starts no goroutine and has no clock; one goroutine
// may use it at a time. Durations are times since the engine began.
type Engine struct {
	cfg        Config
	now        time.Duration
	rand       *rand.Rand
	clock      uint64 // counts the calls that were seen, so that "before" can be told
	proxies    []*proxy
	publishers []*publisher
	sources    []*source
	rules      rules
	byURI      map[Presentity]*person
	people     []*person
	wheel      wheel
	stats      Stats
	out        Work
	taken      Work          // what Take returned last
	stopping   bool          // Withdraw
	quiet      bool          // Quiesce
	takeover   bool          // see takeover.go
	letGoAt    time.Duration // not before are more of them looked at
	held       []*person     // whose claims of an earlier life are still to be dropped
}

// New returns an engine that knows nothing yet.
func New(cfg Config) (*Engine, error) {
	if cfg.Directory == nil {
		return nil, errors.New("engine: no directory")
	}
	cfg.Sides = orElse(cfg.Sides, SideBoth)
	cfg.Audit = orElse(cfg.Audit, 5*time.Minute)
	cfg.Hold = orElse(cfg.Hold, time.Hour)
	cfg.MaxCalls = orElse(cfg.MaxCalls, 2_000_000)
	e := &Engine{cfg: cfg, byURI: make(map[Presentity]*person), rand: rand.New(rand.NewPCG(cfg.Seed, 0))}
	for i, name := range cfg.Proxies {
		e.proxies = append(e.proxies, &proxy{name: name, index: i, calls: make(map[DialogID]*call)})
	}
	for i, p := range cfg.Publishers {
		expires := orElse(p.Expires, 600*time.Second)
		e.publishers = append(e.publishers, &publisher{name: p.Name, index: i,
			expires: expires, initial: orElse(p.InitialExpires, expires), max: orElse(p.Max, 256),
			rate: bucket{rate: p.Rate}, wants: p.Wants, sentinel: !p.NoSentinel, codes: make(map[int]uint64)})
	}
	if err := e.addSources(); err != nil {
		return nil, err
	}
	return e, e.addEndpoints(cfg.Endpoints)
}

// addSources sets the sources up, and who hears of them.
func (e *Engine) addSources() error {
	if len(e.cfg.Sources) > maxSources {
		return fmt.Errorf("%d sources: at most %d", len(e.cfg.Sources), maxSources)
	}
	e.rules = newRules(e.cfg.Precedence, e.cfg.Shown, e.cfg.Preferred)
	deaf := make([]map[string]bool, len(e.publishers)) // to sources, by name
	for i, c := range e.cfg.Sources {
		src := &source{SourceConfig: c, index: i, words: make(map[string]int), claimed: make(map[*person]struct{})}
		for _, name := range c.Reads {
			at := slices.IndexFunc(e.publishers, func(p *publisher) bool { return p.name == name })
			if at < 0 {
				return fmt.Errorf("source %s: reads from publisher %q, which is none", c.Name, name)
			}
			src.reads = append(src.reads, at)
			e.publishers[at].read = true
			if deaf[at] == nil {
				deaf[at] = make(map[string]bool)
			}
			deaf[at][c.Name] = true
		}
		e.sources = append(e.sources, src)
	}
	for i, p := range e.publishers {
		p.seenAs = e.cfg.Publishers[i].SeenAs
		p.hears = hearing(e.cfg.Publishers[i].Part, deaf[i])
	}
	return nil
}

// hearing returns which claims a publisher hears of, nil for all.
func hearing(which Part, deaf map[string]bool) part {
	half := map[Part]part{TelephonyOnly: telephony, RichOnly: rich}[which]
	if half == nil && deaf == nil {
		return nil
	}
	return func(source string, telephony bool) bool { return !deaf[source] && half.of(source, telephony) }
}

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Advance lets time pass. It never goes back.
func (e *Engine) Advance(now time.Duration) {
	if now <= e.now {
		return
	}
	e.now = now
	e.wheel.advance(e, now)
	for _, p := range e.proxies {
		e.tickProxy(p)
	}
	for _, p := range e.publishers {
		e.tickPublisher(p)
	}
	e.letGo()
	e.dispatch()
}

// Connected states that a proxy's events arrive from now on, and which of its lives they
// are of. What was missed before is learned by a resync.
func (e *Engine) Connected(proxy int, epoch string) {
	p := e.proxies[proxy]
	p.connected, p.since = true, e.now
	why := "connected"
	if p.epoch != epoch {
		if p.epoch != "" {
			why = "the proxy restarted"
			e.stats.NewEpochs++
		}
		p.newLife(epoch)
	}
	p.resync.tries, p.resync.rest = 0, 0
	e.doubt(p, why)
	e.dispatch()
}

// Disconnected states that nothing is heard of a proxy any more. Its calls are kept.
func (e *Engine) Disconnected(proxy int) {
	p := e.proxies[proxy]
	if p.connected {
		p.connected, p.since = false, e.now
		p.resync.fallOut(e.now)
	}
}

// Calls takes events of a connected proxy.
func (e *Engine) Calls(proxy int, events []CallEvent) {
	p := e.proxies[proxy]
	for i := range events {
		e.applyCall(p, events[i])
	}
	e.dispatch()
}

// Doubt states that events of a proxy may have been lost.
func (e *Engine) Doubt(proxy int, why string) {
	e.stats.Doubts++
	e.doubt(e.proxies[proxy], why)
}

// Listed answers a [ListWork].
func (e *Engine) Listed(proxy int, id uint64, l Listing) { e.listed(e.proxies[proxy], id, l) }

// Detailed takes the details of some dialogs of a [DetailWork]. They are events like any.
func (e *Engine) Detailed(proxy int, id uint64, events []CallEvent) {
	if r := e.proxies[proxy].resync; r.id == id && r.running && r.epoch == e.proxies[proxy].epoch {
		e.Calls(proxy, events)
	}
}

// Resynced ends a [DetailWork] well.
func (e *Engine) Resynced(proxy int, id uint64) {
	e.resynced(e.proxies[proxy], id)
	e.dispatch()
}

// ResyncFailed ends a [ListWork] or [DetailWork] that could not be done.
func (e *Engine) ResyncFailed(proxy int, id uint64, why string) {
	e.resyncFailed(e.proxies[proxy], id, why)
}

// Claim takes what a source says of a presentity. A state of Unknown withdraws it.
func (e *Engine) Claim(who Presentity, c Claim) {
	e.claim(e.person(who), c, reason{what: "source " + c.Source})
	e.dispatch()
}

// Settled takes the outcome of a request.
func (e *Engine) Settled(r Request, o Outcome) {
	p := r.publication
	p.publisher.inFlight--
	p.publisher.count(r, o)
	if o.Code != 0 {
		e.heard(p.publisher, o.Result)
	}
	if o.Result == TooBrief && !e.adopt(p.publisher, r, o.MinExpires) {
		o.Result = Refused
	}
	p.settle(e, r, o)
	e.plan(p)
	e.forgetIdle(p.person)
	e.dispatch()
}

// Withdraw ends all presence: every publication is to be removed and no event changes
// anything any more.
func (e *Engine) Withdraw() {
	e.stopping = true
	for _, who := range append([]*person(nil), e.people...) {
		who.inCall = Unknown
		if len(who.claims) > 0 {
			who.claims = nil
			who.shed()
		}
		e.refold(who, reason{what: "withdrawn at the end"})
		e.forgetIdle(who)
	}
	e.dispatch()
}

// Live returns how many publications a server still has, or may have.
func (e *Engine) Live() (n int) {
	for _, who := range e.people {
		for i := range who.pubs {
			if who.pubs[i].has != Unknown || who.pubs[i].outstanding != 0 {
				n++
			}
		}
	}
	return n
}

// plan puts a publication where it belongs: in its publisher's queue, in the wheel, or
// nowhere.
func (e *Engine) plan(p *publication) {
	k, wake := p.next(e.now)
	to := urgent
	if p.attempts > 0 {
		to = again
	}
	if k == Refresh {
		if last := p.lastMoment(); e.now < last {
			to, wake = routine, last
		}
	}
	if k != 0 && to > p.waits { // what becomes urgent overtakes the refreshes
		p.waits = to
		p.publisher.lanes[to].push(p)
	}
	if wake > 0 {
		p.wakeAt = wake
		e.rearm(p.person)
	}
	p.remember(e)
	e.keep(p)
}

// dispatch sends what waits, as far as there is room.
func (e *Engine) dispatch() {
	if e.quiet {
		return
	}
	for _, pub := range e.publishers {
		for pub.hasRoom(e.now) && pub.rate.open(e.now) {
			p := pub.pop()
			if p == nil {
				break
			}
			e.send(p)
		}
	}
	e.dispatchSources()
}

// pop takes the next publication from the best lane, nil if none waits. What went on from
// one lane to a better one is skipped in the first.
func (p *publisher) pop() *publication {
	for lane := routine; lane <= urgent; lane++ {
		p.skipStale(lane)
	}
	for lane := urgent; lane >= routine; lane-- {
		if q := &p.lanes[lane]; q.len() > 0 {
			return q.pop()
		}
	}
	return nil
}

func (p *publisher) skipStale(lane lane) {
	for q := &p.lanes[lane]; q.len() > 0 && q.items[q.head].waits != lane; {
		q.pop()
	}
}

// send turns a publication's need into a request. The need is looked at anew, since it
// may have gone or changed while it waited.
func (e *Engine) send(p *publication) {
	p.waits = 0
	k, _ := p.next(e.now)
	if k == 0 {
		e.plan(p)
		e.forgetIdle(p.person)
		return
	}
	p.wakeAt = 0
	p.outstanding, p.sentAt = k, e.now
	e.asked(p.publisher)
	p.publisher.rate.take()
	p.dirty = p.dirty || k == Modify || k == Remove && p.former == "" // the next life must not trust the state
	e.keep(p)
	e.out.Publish = append(e.out.Publish, PublishWork{Publisher: p.publisher.index, Request: p.request(e, k)})
}

// spread returns a duration within 25 % of d, so that what began together does not stay
// together.
func (e *Engine) spread(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(e.rand.Int64N(int64(d/2)+1))
}
