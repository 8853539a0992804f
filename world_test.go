package busylamp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// world is everything around an engine, simulated in virtual time: a proxy whose events
// can be held up, shuffled, doubled and lost, and presence servers that can fail in every
// way that RFC 3903 allows. It knows the truth and compares.
type world struct {
	t   *rapid.T
	e   *Engine
	cfg Config

	now       time.Duration
	proxy     simProxy
	servers   []*simServer
	connected bool
	lost      bool           // an event was lost and the engine not yet told
	writeOff  uint32         // numbers up to it were written off when that was noticed
	wire      []CallEvent    // raised, not delivered
	delivered []CallEvent    // may come again
	known     map[int]bool   // serial numbers of calls whose start the engine has had
	lists     []simList      // resyncs under way
	details   []simDetail    // their second half
	requests  []PublishWork  // outstanding
	busyAt    map[string]int // outstanding by publisher and presentity: at most one
	stored    map[string]Record
	uncertain []StoreOp // the last changes, which a kill may cut off
}

// simProxy is the truth.
type simProxy struct {
	epoch  int
	seq    uint32
	nextID uint32
	serial int
	calls  map[DialogID]simCall
}

type simCall struct {
	serial         int // never used twice
	stage          Stage
	caller, callee string
}

type simList struct {
	work  ListWork
	taken *Listing
}

type simDetail struct {
	work   DetailWork
	events []CallEvent // read from the proxy, not yet delivered
	read   int         // of work.Wanted
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

func newWorld(t *rapid.T, publishers int, early bool) *world {
	w := &world{t: t, known: map[int]bool{}, busyAt: map[string]int{}, stored: map[string]Record{}}
	w.proxy.calls = map[DialogID]simCall{}
	cfg := Config{Proxies: []string{"p1"}, Directory: testDirectory{}, Seed: 1, Early: early, Durable: true}
	for i := range publishers {
		cfg.Publishers = append(cfg.Publishers, PublisherConfig{Name: fmt.Sprint("s", i), Max: 4})
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
	records := w.e.Records()
	w.known, w.lists, w.details = map[int]bool{}, nil, nil
	w.wire, w.delivered, w.lost = nil, nil, false
	w.begin()
	w.e.TakeOver(records)
	if w.connected {
		w.connect()
	}
}

// killed ends the sidecar's life at once. The next one finds what was stored.
func (w *world) killed(taken, stored func() bool) {
	if stored() {
		w.commit()
	}
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
	w.known, w.lists, w.details = map[int]bool{}, nil, nil
	w.wire, w.delivered, w.lost = nil, nil, false
	w.begin()
	w.e.TakeOver(records)
	if w.connected {
		w.connect()
	}
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
		w.uncertain = work.Store
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
		w.lists = append(w.lists, simList{work: l})
	}
	for _, d := range work.Details {
		w.details = append(w.details, simDetail{work: d})
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

// checkNeverCleared is I2: nobody is free while a call of theirs is up that we know of.
func (w *world) checkNeverCleared() {
	for id, c := range w.proxy.calls {
		if !w.known[c.serial] || c.stage != Confirmed {
			continue
		}
		for _, uri := range []string{c.caller, c.callee} {
			if v, _ := w.e.View(Presentity(uri)); v.State != OnThePhone {
				w.t.Fatalf("I2: %s is %s while call %s is up", uri, v.State, id)
			}
		}
	}
}

func user(n int) string { return fmt.Sprintf("sip:u%d@example.com", n) }

// raise writes an event to the wire.
func (w *world) raise(id DialogID, stage Stage) {
	w.proxy.seq++
	ev := CallEvent{Dialog: id, Stage: stage, Seq: w.proxy.seq}
	if stage != Ended {
		c := w.proxy.calls[id]
		ev.Caller, ev.Callee, ev.CallID = c.caller, c.callee, fmt.Sprint("call", c.serial)
	}
	if w.connected {
		w.wire = append(w.wire, ev)
	}
}

func (w *world) pickCall(t *rapid.T) (DialogID, bool) {
	ids := make([]DialogID, 0, len(w.proxy.calls))
	for id := range w.proxy.calls {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return DialogID{}, false
	}
	slices.SortFunc(ids, func(a, b DialogID) int { return int(a.ID) - int(b.ID) })
	return rapid.SampledFrom(ids).Draw(t, "call"), true
}

// deliver hands the i-th event of the wire to the engine.
func (w *world) deliver(i int) {
	ev := w.wire[i]
	w.wire = slices.Delete(w.wire, i, i+1)
	w.delivered = append(w.delivered, ev)
	w.apply(ev)
}

func (w *world) apply(ev CallEvent) {
	if c, ok := w.proxy.calls[ev.Dialog]; ok && ev.Stage == Confirmed && ev.CallID == fmt.Sprint("call", c.serial) {
		w.known[c.serial] = true
	}
	w.e.Calls(0, []CallEvent{ev})
	if ev.Seq <= w.writeOff {
		w.e.Doubt(0, "an event after it was written off")
	}
}

// notice tells the engine of a loss, as the adapter does when a hole in the numbers stays
// open: whatever has not arrived by then is written off.
func (w *world) notice() {
	if w.lost {
		w.lost, w.writeOff = false, w.proxy.seq
		w.e.Doubt(0, "events lost")
	}
}

func (w *world) connect() {
	w.connected, w.writeOff = true, 0
	w.e.Connected(0, fmt.Sprint(w.proxy.epoch))
}

func (w *world) disconnect() {
	w.connected = false
	w.wire, w.delivered = nil, nil // what was on its way is gone, and nothing is doubled later
	w.e.Disconnected(0)
}

// restart ends the proxy's life. Some calls survive, as with a dialog database.
func (w *world) restart(survive func(DialogID) bool) {
	if w.connected {
		w.disconnect()
	}
	w.proxy.epoch++
	w.proxy.seq = 0
	for id := range w.proxy.calls {
		if !survive(id) {
			delete(w.proxy.calls, id)
		}
	}
}

// stepResync moves a resync on by one step: the list is taken, delivered, a dialog is
// read, the details are delivered.
func (w *world) stepResync(fail bool) {
	if len(w.lists) > 0 {
		l := &w.lists[0]
		switch {
		case fail || !w.connected:
			w.lists = w.lists[1:]
			w.e.ResyncFailed(0, l.work.ID, "no answer")
		case l.taken == nil:
			l.taken = &Listing{Epoch: fmt.Sprint(w.proxy.epoch)}
			for id, c := range w.proxy.calls {
				l.taken.Live = append(l.taken.Live, Listed{Dialog: id, Stage: c.stage})
			}
		default:
			w.lists = w.lists[1:]
			w.e.Listed(0, l.work.ID, *l.taken)
		}
		return
	}
	if len(w.details) == 0 {
		return
	}
	d := &w.details[0]
	switch {
	case fail || !w.connected:
		w.e.ResyncFailed(0, d.work.ID, "no answer")
		w.details = w.details[1:]
	case d.read < len(d.work.Wanted):
		id := d.work.Wanted[d.read].Dialog
		d.read++
		if c, ok := w.proxy.calls[id]; ok {
			d.events = append(d.events, CallEvent{Dialog: id, Stage: c.stage, Caller: c.caller, Callee: c.callee,
				CallID: fmt.Sprint("call", c.serial)})
		}
	default:
		events, id := d.events, d.work.ID
		w.details = w.details[1:]
		w.e.Detailed(0, id, events)
		w.e.Resynced(0, id)
	}
}

// pass lets time pass in small steps, with the servers answering unless they are told
// not to.
func (w *world) pass(d time.Duration, answer bool) {
	for end := w.now + d; w.now < end; {
		w.now += min(500*time.Millisecond, end-w.now)
		w.e.Advance(w.now)
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

// calm ends all faults and gives the engine the 30 s of I8.
func (w *world) calm() {
	for len(w.wire) > 0 {
		w.deliver(0)
	}
	if !w.connected {
		w.connect()
	}
	w.notice()
	w.settle()
	w.pass(30*time.Second, true)
}
