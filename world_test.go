package busylamp

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// world is everything around an engine, simulated in virtual time: proxies whose events
// can be held up, shuffled, doubled and lost, and presence servers that can fail in every
// way that RFC 3903 allows. It knows the truth and compares.
type world struct {
	t   *rapid.T
	e   *Engine
	cfg Config

	now       time.Duration
	proxies   []*simProxy
	servers   []*simServer
	serial    int                   // of calls
	known     map[int]time.Duration // when the engine had the start of a call, by its serial number
	dumps     bool                  // lists say when calls time out
	began     time.Duration         // the sidecar's life
	lists     []simList             // resyncs under way
	details   []simDetail           // their second half
	requests  []PublishWork         // outstanding
	busyAt    map[string]int        // outstanding by publisher and presentity: at most one
	stored    map[string]Record
	held      map[Presentity]bool // lit when the last life ended
	uncertain []StoreOp           // the last changes, which a kill may cut off
}

// testDirectory publishes for everybody in example.com.
type testDirectory struct{}

func (testDirectory) Presentity(uri string) (Presentity, error) {
	p, err := ParsePresentity(uri)
	if err != nil || p.Domain() != "example.com" {
		return "", err
	}
	return p, nil
}

func (testDirectory) DisplayName(Presentity) string { return "" }

// worldConfig is what one world differs in from another.
type worldConfig struct {
	proxies, publishers    int
	early, sentinel, dumps bool
	hold                   time.Duration
}

func drawWorld(t *rapid.T) worldConfig {
	return worldConfig{
		proxies:    rapid.IntRange(1, 2).Draw(t, "proxies"),
		publishers: rapid.IntRange(1, 2).Draw(t, "publishers"),
		early:      rapid.Bool().Draw(t, "early"),
		sentinel:   rapid.Bool().Draw(t, "sentinel"),
		dumps:      rapid.Bool().Draw(t, "dumps"),
		hold:       rapid.SampledFrom([]time.Duration{2 * time.Minute, time.Hour}).Draw(t, "hold"),
	}
}

func newWorld(t *rapid.T, c worldConfig) *world {
	w := &world{t: t, known: map[int]time.Duration{}, busyAt: map[string]int{}, stored: map[string]Record{}}
	w.dumps = c.dumps
	cfg := Config{Directory: testDirectory{}, Seed: 1, Early: c.early, Durable: true, Hold: c.hold}
	for i := range c.proxies {
		cfg.Proxies = append(cfg.Proxies, fmt.Sprint("p", i+1))
		w.proxies = append(w.proxies, &simProxy{index: i, calls: map[DialogID]simCall{}})
	}
	for i := range c.publishers {
		cfg.Publishers = append(cfg.Publishers, PublisherConfig{Name: fmt.Sprint("s", i), Max: 4, NoSentinel: !c.sentinel})
		w.servers = append(w.servers, &simServer{entries: map[Presentity]map[string]simEntry{}})
	}
	w.cfg = cfg
	w.begin()
	return w
}

// begin gives the sidecar a new life.
func (w *world) begin() {
	var err error
	if w.e, err = New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.e.Advance(w.now)
	w.e.Take()
}

// reborn ends the sidecar's life cleanly and begins the next one, which takes over. What
// was outstanding is cut off: the server may have taken it or not.
func (w *world) reborn(taken func() bool) {
	for len(w.requests) > 0 {
		how := silent
		if taken() {
			how = answerLost
		}
		w.answer(0, how)
	}
	w.nextLife(w.e.Records())
}

// nextLife begins the sidecar's next life. Events on their way to the last one are gone.
func (w *world) nextLife(records []Record) {
	w.known, w.lists, w.details, w.began = map[int]time.Duration{}, nil, nil, w.now
	w.held = map[Presentity]bool{}
	for _, r := range records {
		if !r.Clear && r.Expires > w.now {
			w.held[r.Presentity] = true
		}
	}
	w.begin()
	w.e.TakeOver(records)
	for _, p := range w.proxies {
		p.wire, p.delivered, p.lost = nil, nil, false
		if p.connected {
			w.connect(p)
		}
	}
}

// killed ends the sidecar's life at once. The next one finds what was stored.
func (w *world) killed(taken, stored func() bool) {
	if stored() {
		w.commit()
	}
	// What is written before a request leaves is written: the store takes 5 ms.
	w.uncertain = slices.DeleteFunc(w.uncertain, func(op StoreOp) bool {
		if op.Record.Unsure && !op.Delete {
			w.stored[op.Record.Publisher+string(op.Record.Presentity)] = op.Record
			return true
		}
		return false
	})
	excused := len(w.uncertain) + len(w.requests)
	w.uncertain = nil
	var lost []PublishWork
	lost, w.requests = w.requests, nil
	for _, p := range lost {
		w.busyAt[fmt.Sprint(p.Publisher, p.Request.Presentity)]--
		if taken() {
			w.servers[p.Publisher].take(p.Request, w.now)
		}
	}
	known := map[string]bool{}
	var records []Record
	for _, r := range w.stored {
		records = append(records, r)
		known[fmt.Sprint(r.Publisher, r.Presentity, r.Tag)] = true
	}
	slices.SortFunc(records, func(a, b Record) int {
		return strings.Compare(string(a.Presentity)+a.Publisher, string(b.Presentity)+b.Publisher)
	})
	for i, s := range w.servers {
		for who, entries := range s.entries {
			for tag, e := range entries {
				if !e.orphan && w.now < e.expires && !known[fmt.Sprint("s", i, who, tag)] {
					e.orphan = true
					entries[tag] = e
					if excused--; excused < 0 {
						w.t.Fatalf("%s of %s was neither stored nor in flight when the sidecar was killed", tag, who)
					}
				}
			}
		}
	}
	w.nextLife(records)
}

func (w *world) commit() {
	for _, op := range w.uncertain {
		key := op.Record.Publisher + string(op.Record.Presentity)
		if op.Delete {
			delete(w.stored, key)
		} else {
			w.stored[key] = op.Record
		}
	}
	w.uncertain = nil
}

// settle collects the engine's work and checks what must hold at every moment.
func (w *world) settle() {
	work := w.e.Take()
	if len(work.Store) > 0 {
		w.commit()
		w.uncertain = slices.Clone(work.Store)
	}
	for _, p := range work.Publish {
		key := fmt.Sprint(p.Publisher, p.Request.Presentity)
		if w.busyAt[key]++; w.busyAt[key] > 1 {
			w.t.Fatalf("I4: %d requests outstanding for %s", w.busyAt[key], p.Request.Presentity)
		}
		checkRequest(w.t, p.Request)
		w.requests = append(w.requests, p)
	}
	for _, l := range work.Lists {
		w.proxies[l.Proxy].askedAt = w.now
		w.lists = append(w.lists, simList{work: l})
	}
	for _, d := range work.Details {
		w.details = append(w.details, simDetail{work: d, epoch: w.proxies[d.Proxy].told})
	}
	w.checkNeverCleared()
}

func checkRequest(t *rapid.T, r Request) {
	ok := false
	switch r.Kind {
	case Initial:
		ok = r.Tag == "" && r.Expires > 0 && r.State.Published()
	case Refresh:
		ok = r.Tag != "" && r.Expires > 0
	case Modify:
		ok = r.Tag != "" && r.Expires > 0 && r.State.Published()
	case Remove:
		ok = r.Expires == 0
	}
	if !ok {
		t.Fatalf("request of no kind that RFC 3903 knows: %+v", r)
	}
}

// checkNeverCleared is I2: nobody is free while a call of theirs is up that we know of,
// unless its proxy could not be asked for too long.
func (w *world) checkNeverCleared() {
	if w.now-w.began < w.cfg.Hold && slices.ContainsFunc(w.e.proxies, func(p *proxy) bool { return p.resync.done == 0 }) {
		for who := range w.held {
			if v, _ := w.e.View(who); !v.State.Published() {
				w.t.Fatalf("I2: %s, lit when the last life ended, is %s before every proxy was compared", who, v.State)
			}
		}
	}
	for _, p := range w.proxies {
		for id, c := range p.calls {
			since, known := w.known[c.serial]
			if !known || c.stage != Confirmed {
				continue
			}
			for _, uri := range []string{c.caller, c.callee} {
				if v, _ := w.e.View(Presentity(uri)); v.State == OnThePhone {
					continue
				} else if !w.released(p, c, since) {
					w.t.Fatalf("I2: %s is %s while call %s is up", uri, v.State, id)
				}
				delete(w.known, c.serial)
			}
		}
	}
}

// released tells whether a call may have been released for want of an answer.
func (w *world) released(p *simProxy, c simCall, since time.Duration) bool {
	doubt := w.now - p.listedAt
	return doubt >= w.cfg.Hold && w.now-since >= w.cfg.Hold ||
		!p.connected && doubt >= lapseDoubt && c.told != 0 && c.told+lapseGrace <= w.now
}

// calls are those of all proxies.
func (w *world) calls() iter.Seq2[DialogID, simCall] {
	return func(yield func(DialogID, simCall) bool) {
		for _, p := range w.proxies {
			for id, c := range p.calls {
				if !yield(id, c) {
					return
				}
			}
		}
	}
}

func user(n int) string { return fmt.Sprintf("sip:u%d@example.com", n) }

// tick lets half a second pass, and not more than up to a time.
func (w *world) tick(end time.Duration) {
	w.now += min(500*time.Millisecond, end-w.now)
	w.timeOut()
	w.age()
	w.giveUp()
	w.e.Advance(w.now)
	w.settle()
}

// pass lets time pass in small steps, with the servers answering unless they are told
// not to.
func (w *world) pass(d time.Duration, answer bool) {
	for end := w.now + d; w.now < end; {
		w.tick(end)
		for _, p := range w.proxies {
			for answer && len(p.wire) > 0 {
				w.deliver(p, 0)
			}
		}
		w.settle()
		for answer && len(w.requests) > 0 {
			w.answer(0, healthy)
		}
		for answer && len(w.lists)+len(w.details) > 0 {
			w.stepResync(false)
			w.settle()
		}
	}
}

// storm lets time pass while every server treats every request alike, and no proxy answers.
func (w *world) storm(d time.Duration, how weather) {
	for end := w.now + d; w.now < end; {
		w.tick(end)
		for len(w.requests) > 0 {
			w.answer(0, how)
		}
	}
}

// calm ends all faults and gives the engine the 30 s of I8.
func (w *world) calm() {
	for _, p := range w.proxies {
		for len(p.wire) > 0 {
			w.deliver(p, 0)
		}
		if !p.connected {
			w.connect(p)
		}
		w.notice(p)
	}
	w.settle()
	w.pass(30*time.Second, true)
}
