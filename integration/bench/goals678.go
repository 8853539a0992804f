package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/store"
	"github.com/busylamp/busylamp/integration/stack"
)

func init() {
	register(Measure{
		Name: "million",
		What: "one million live publications",
		How: "The program itself between two stand-ins: one tells of 500,000 calls over evapi, each with a caller and a callee of its own " +
			"(URIs of 24 bytes, Call-IDs of 40), the other accepts every PUBLISH by UDP. Resident memory is VmRSS of the whole process " +
			"over the publications, at rest, half a minute after the last one has been answered; the peak is VmHWM.",
		Goals: []Goal{
			{Number: 6, What: "bytes resident for each of a million publications", Figure: "resident", AtMost: 1024},
			{Number: 6, What: "the same at the peak", Figure: "resident, peak"},
			{Number: 6, What: "CPU at rest, between refreshes", Figure: "cpu at rest"},
		},
		Run: million,
	})
	register(Measure{
		Name:  "refreshes",
		What:  "refreshes of a million publications",
		Child: true,
		How: "The engine alone in simulated time: a million publications of 600 s each that began within 250 s, over two cycles. " +
			"Seconds are counted by what was sent in them. Its CPU time for them is a part of what a refresh costs: the PUBLISH comes on top (goal 5).",
		Goals: []Goal{
			{Number: 6, What: "refreshes in the worst second over the mean", Figure: "worst second", Over: "mean second", AtMost: 1.5},
			{Number: 6, What: "CPU of the core at rest, refreshes included", Figure: "cpu with refreshes"},
		},
		Run: refreshes,
	})
	register(Measure{
		Name: "start",
		What: "cold start",
		How: "The program starts with so many records in its store, with the proxy's stand-in there, which has no calls. Serving is the " +
			"first answer of /healthz, when all are taken over; ready is the first 200 of /readyz, when the proxy has been compared as well. " +
			"The store was closed in order, and once more its process was killed right after the last commit.",
		Goals: []Goal{
			{Number: 7, What: "ready with 200,000 records", Figure: "ready 200000", AtMost: 2},
			{Number: 7, What: "ready with 1,000,000 records", Figure: "ready 1000000", AtMost: 8},
			{What: "ready with 1,000,000 records after kill -9", Figure: "ready killed"},
			{What: "serving with 1,000,000 records", Figure: "serving 1000000"},
			{What: "memory at the peak of that, for a record", Figure: "start, peak 1000000"},
		},
		Run: coldStart,
	})
	registerHelper("fill", fillHelper)
	register(Measure{
		Name: "crowd",
		What: "a call among 500,000 live presentities",
		How: "Two sidecars between stand-ins, the one with 500 calls up, the other with 250,000. Both get the same in turns: 1,000 calls a second " +
			"for 20 s (long enough for a collection of garbage), each of them new people and the end of one of the calls that are up, by chance. CPU time is the whole sidecar's: evapi, " +
			"two PUBLISH and two removals, their answers, the store, and the collection of garbage.",
		Goals: []Goal{
			{Number: 8, What: "CPU per call with 500,000 live over 1,000 live", Figure: "call among 500000", Over: "call among 1000", AtMost: 1.2},
		},
		Run: crowd,
	})
}

// populate has calls from..to-1 begin, no faster than they are published.
func (s *sidecar) populate(ctx context.Context, from, to int) error {
	for s.say(nil) != nil { // until it is connected
		time.Sleep(10 * time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := s.wait(ctx, "/readyz", 30*time.Second); err != nil {
		return err
	}
	before := s.asked.Load()
	calls := make([]dialog, linesOf)
	for i := from; i < to; i += len(calls) {
		calls = calls[:min(to-i, linesOf)]
		for k := range calls {
			calls[k] = dialog(i + k)
		}
		if err := s.begin(calls...); err != nil {
			return err
		}
		if err := s.answered(ctx, before+2*int64(i-from), 2000); err != nil {
			return err
		}
	}
	return s.answered(ctx, before+2*int64(to-from), 0)
}

func million(ctx context.Context, e Env) ([]Sample, error) {
	runtime.LockOSThread() // the sidecar dies with the thread that started it
	calls, rest := 500_000, 20*time.Second
	if e.Quick {
		calls, rest = 50_000, 3*time.Second
	}
	in, err := newStandin()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	s, err := startSidecar(ctx, e, in, filepath.Join(e.Dir, "million"), "600s")
	if err != nil {
		return nil, err
	}
	defer s.kill()
	e.Progress(1, 2, "%d calls begin", calls)
	if err := s.populate(ctx, 1, 1+calls); err != nil {
		return nil, err
	}
	e.Progress(2, 2, "rest for %v", rest)
	time.Sleep(rest / 2) // a collection of garbage may be under way
	before, err := stack.CPU(s.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	time.Sleep(rest)
	after, err := stack.CPU(s.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	now, most, err := s.resident()
	if err != nil {
		return nil, err
	}
	if err := fetchProfile(ctx, s.url+"/debug/pprof/heap", e.profile("goal-6-heap-of-a-million")); err != nil {
		return nil, err
	}
	n, err := s.figure(ctx, "busylamp_presentities")
	if err != nil {
		return nil, err
	}
	if n != 2*float64(calls) {
		return nil, fmt.Errorf("million: %v presentities, want %d", n, 2*calls)
	}
	return []Sample{{Figure: "resident", Unit: "B", Value: now / n}, {Figure: "resident, peak", Unit: "B", Value: most / n},
		{Figure: "cpu at rest", Unit: "%", Value: 100 * (after - before).Seconds() / rest.Seconds()}}, nil
}

// refreshes runs an engine in simulated time.
func refreshes(_ context.Context, e Env) ([]Sample, error) {
	people, from := 1_000_000, 250*time.Second
	if e.Quick {
		people = 100_000
	}
	engine, err := busylamp.New(busylamp.Config{Directory: somebody{}, Durable: true, Publishers: []busylamp.PublisherConfig{{Name: "bench"}}})
	if err != nil {
		return nil, err
	}
	sent := make(map[time.Duration]int)
	tags := 0
	step := func(now time.Duration) {
		for w := engine.Take(); len(w.Publish) > 0; w = engine.Take() {
			for _, p := range w.Publish {
				tags++
				sent[now.Truncate(time.Second)]++
				engine.Settled(p.Request, busylamp.Outcome{Result: busylamp.Accepted, Code: 200, Expires: p.Request.Expires, Tag: fmt.Sprintf("a.1754000000.%d", tags)})
			}
		}
	}
	const tick = 100 * time.Millisecond
	now, begun := time.Duration(0), 0
	e.Progress(1, 2, "%d publications begin", people)
	for ; now < from; now += tick {
		engine.Advance(now)
		for ; begun < int(float64(people)*now.Seconds()/(from-tick).Seconds()); begun++ {
			engine.Claim(busylamp.Presentity(fmt.Sprintf("sip:a%08d@example.com", begun)), busylamp.Claim{Source: "bench", State: busylamp.OnThePhone})
			step(now)
		}
	}
	e.Progress(2, 2, "two cycles")
	clear(sent)
	cpu := ownCPU()
	end := from + 20*time.Minute
	for ; now < end; now += tick {
		engine.Advance(now)
		step(now)
	}
	cpu = ownCPU() - cpu
	total, worst := 0, 0
	for _, n := range sent {
		total, worst = total+n, max(worst, n)
	}
	seconds := (end - from).Seconds()
	return []Sample{{Figure: "worst second", Unit: "1/s", Value: float64(worst)}, {Figure: "mean second", Unit: "1/s", Value: float64(total) / seconds},
		{Figure: "cpu with refreshes", Unit: "%", Value: 100 * cpu.Seconds() / seconds}}, nil
}

func coldStart(ctx context.Context, e Env) (samples []Sample, err error) {
	runtime.LockOSThread() // the sidecar dies with the thread that started it
	kinds, rounds := []records{{"200000", 200_000, false}, {"1000000", 1_000_000, false}, {"killed", 1_000_000, true}}, 3
	if e.Quick {
		rounds = 1
		for i := range kinds {
			kinds[i].n /= 10
		}
	}
	in, err := newStandin()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	name, err := publisherName(ctx, e, in)
	if err != nil {
		return nil, err
	}
	for i, kind := range kinds {
		filled := filepath.Join(e.Dir, "records-"+kind.name)
		if kind.killed {
			err = fillAndDie(ctx, filled, name, kind.n)
		} else {
			err = fill(ctx, filled, name, kind.n, nil)
		}
		if err != nil {
			return nil, err
		}
		for round := range rounds {
			e.Progress(rounds*i+round+1, rounds*len(kinds), "start with %d records", kind.n)
			some, err := startWith(ctx, e, in, filled, kind, round)
			if err != nil {
				return nil, err
			}
			samples = append(samples, some...)
		}
	}
	return samples, nil
}

// records are what a cold start finds.
type records struct {
	name   string // in figures
	n      int
	killed bool // whoever wrote them, before it could close the store
}

// publisherName learns by one call what the publisher is called in the store.
func publisherName(ctx context.Context, e Env, in *standin) (string, error) {
	dir := filepath.Join(e.Dir, "name")
	s, err := startSidecar(ctx, e, in, dir, "600s")
	if err != nil {
		return "", err
	}
	err = s.populate(ctx, 1, 2)
	time.Sleep(200 * time.Millisecond) // the store's, to write it
	s.kill()
	if err != nil {
		return "", err
	}
	records, err := store.Open(filepath.Join(dir, "publications"), store.Options{})
	if err != nil {
		return "", err
	}
	defer records.Close()
	all, err := records.Load(ctx)
	if err == nil && len(all) != 2 {
		err = fmt.Errorf("start: the store holds %d records, not the call's 2", len(all))
	}
	if err != nil {
		return "", err
	}
	return all[0].Publisher, nil
}

// fillAndDie has fill done by a process that is killed before it closes the store.
func fillAndDie(ctx context.Context, dir, publisher string, n int) error {
	r, err := startHelper(ctx, "fill", dir, publisher, strconv.Itoa(n))
	if err != nil {
		return err
	}
	_ = r.cmd.Process.Kill() // before its standard input ends
	r.stop()
	return nil
}

// fillHelper is the process that is killed.
func fillHelper(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("fill: want DIR PUBLISHER N")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	return fill(ctx, args[0], args[1], n, func() {
		fmt.Println("filled")
		_, _ = io.Copy(io.Discard, stdin()) // it is killed before that ends
	})
}

// fill makes a state directory with so many records, whose refreshes are due in the next 420 s.
// then is called before the store is closed, where it is not nil.
func fill(ctx context.Context, dir, publisher string, n int, then func()) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := store.Open(filepath.Join(dir, "publications"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	ops := make([]busylamp.StoreOp, 0, 10_000)
	for i := range n {
		refresh := 420 * time.Second * time.Duration(i) / time.Duration(n)
		ops = append(ops, busylamp.StoreOp{Record: busylamp.Record{Publisher: publisher, Presentity: busylamp.Presentity(fmt.Sprintf("sip:a%08d@example.com", i)),
			Tag: fmt.Sprintf("a.1754000000.12345.%d", i), State: busylamp.OnThePhone, Expires: refresh + 10*time.Minute, Refresh: refresh}})
		if len(ops) == cap(ops) || i == n-1 {
			if err := s.Commit(ctx, ops); err != nil {
				return err
			}
			ops = ops[:0]
		}
	}
	if then != nil {
		then()
	}
	return nil
}

// startWith starts the sidecar on a copy of a state directory, and times it.
func startWith(ctx context.Context, e Env, in *standin, filled string, kind records, round int) ([]Sample, error) {
	dir := filepath.Join(e.Dir, "started")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, os.DirFS(filled)); err != nil {
		return nil, err
	}
	began := time.Now()
	s, err := startSidecar(ctx, e, in, dir, "600s")
	if err != nil {
		return nil, err
	}
	defer s.kill()
	removals := s.asked.Load()
	if err := s.wait(ctx, "/healthz", time.Minute); err != nil {
		return nil, err
	}
	serving := time.Since(began)
	if err := s.wait(ctx, "/readyz", time.Minute); err != nil {
		return nil, err
	}
	ready := time.Since(began)
	_, most, err := s.resident()
	if err != nil {
		return nil, err
	}
	// That they were taken over shows when they are removed.
	if err := s.answered(ctx, removals+int64(min(kind.n, 10_000)), 0); err != nil {
		return nil, err
	}
	figure := func(name, unit string, v float64) Sample {
		return Sample{Figure: name + " " + kind.name, Unit: unit, Round: round, Value: v}
	}
	return []Sample{figure("ready", "s", ready.Seconds()), figure("serving", "s", serving.Seconds()), figure("start, peak", "B", most/float64(kind.n))}, nil
}

func crowd(ctx context.Context, e Env) (samples []Sample, err error) {
	runtime.LockOSThread() // the sidecars die with the thread that started them
	sizes, rate, seconds := []int{500, 250_000}, 1000, 20
	if e.Quick {
		sizes, seconds = []int{500, 20_000}, 2
	}
	var all []*among
	for i, n := range sizes {
		in, err := newStandin()
		if err != nil {
			return nil, err
		}
		defer in.Close()
		s, err := startSidecar(ctx, e, in, filepath.Join(e.Dir, fmt.Sprint("crowd", n)), "3600s")
		if err != nil {
			return nil, err
		}
		defer s.kill()
		e.Progress(i+1, 2+2*e.Rounds(), "%d calls begin", n)
		a := &among{sidecar: s}
		if err := a.grow(ctx, n); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	if !e.Quick {
		time.Sleep(15 * time.Second) // the one that had more to do so far has taken more processors
	}
	for round := range e.Rounds() {
		for i, a := range all {
			e.Progress(3+2*round+i, 2+2*e.Rounds(), "%d calls a second among %d", rate, len(a.up))
			cpu, err := a.churn(ctx, rate, seconds)
			if err != nil {
				return nil, err
			}
			samples = append(samples, Sample{Figure: "call among " + []string{"1000", "500000"}[i], Unit: "us", Round: round, Value: cpu})
		}
	}
	length := time.Duration(min(seconds, 10)) * time.Second
	for i, name := range []string{"goal-8-among-1000", "goal-8-among-500000"} {
		if err := whileProfiled(ctx, all[i].url, e.profile(name), length, func() error {
			_, err := all[i].churn(ctx, rate, int(length.Seconds()))
			return err
		}); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// among is a sidecar among whose calls some end and others begin.
type among struct {
	*sidecar
	up   []dialog
	next dialog
}

// grow has calls begin until n are up.
func (a *among) grow(ctx context.Context, n int) error {
	first := a.next
	a.next += dialog(n - len(a.up))
	for d := first; d < a.next; d++ {
		a.up = append(a.up, d)
	}
	return a.populate(ctx, int(first), int(a.next))
}

// fresh are the calls that began last and go on: one that ends before its PUBLISH was answered has
// fewer than the others.
const fresh = 250

// churn has calls begin and end, so many a second, and returns the CPU time of one, in us.
func (a *among) churn(ctx context.Context, rate, seconds int) (float64, error) {
	pid := a.cmd.Process.Pid
	before, err := stack.CPU(pid)
	if err != nil {
		return 0, err
	}
	published := a.asked.Load()
	began := time.Now()
	for i := range rate * seconds {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		k := rand.IntN(len(a.up))
		for a.up[k]+fresh > a.next {
			k = rand.IntN(len(a.up))
		}
		if err := a.end(a.up[k]); err != nil {
			return 0, err
		}
		a.up[k] = a.next
		if err := a.begin(a.next); err != nil {
			return 0, err
		}
		a.next++
	}
	if err := a.quiet(ctx); err != nil {
		return 0, err
	}
	if n, want := a.asked.Load()-published, 4*int64(rate*seconds); n < want*98/100 {
		return 0, fmt.Errorf("crowd: %d PUBLISH for %d calls, want %d: is this machine busy with something else?", n, rate*seconds, want)
	}
	after, err := stack.CPU(pid)
	return float64((after - before).Microseconds()) / float64(rate*seconds), err
}
