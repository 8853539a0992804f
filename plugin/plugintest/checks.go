package plugintest

import (
	"context"
	"fmt"
)

// check is one part of the suite.
type check struct {
	name    string
	first   bool // what comes after it can only be tested if it is good
	process bool // it is about the source's process
	run     func(context.Context, *probe)
}

var checks = []check{
	{name: "start", first: true, process: true, run: checkStart},
	{name: "describe", first: true, run: checkDescribe},
	{name: "configure", first: true, run: checkConfigure},
	{name: "unknown-key", run: checkUnknownKey},
	{name: "wrong-type", run: checkWrongType},
	{name: "required-key", run: checkRequired},
	{name: "bad-config", run: checkBadConfigs},
	{name: "watch", first: true, run: checkWatch},
	{name: "watch-again", run: checkWatchAgain},
	{name: "unwatch", run: checkUnwatch},
	{name: "many", run: checkMany},
	{name: "odd-messages", run: checkOdd},
	{name: "one-run", run: checkOneRun},
	{name: "end", run: checkEnd},
	{name: "interrupt", process: true, run: checkInterrupt},
	{name: "orphan", process: true, run: checkOrphan},
}

// probe is what a check works with.
type probe struct {
	Options
	faults faults
}

// find runs a check within its time.
func (c check) find(ctx context.Context, o Options) []Finding {
	ctx, cancel := context.WithTimeout(ctx, checking)
	defer cancel()
	p := &probe{Options: o}
	c.run(ctx, p)
	out := make([]Finding, 0, len(p.faults.texts))
	for _, text := range p.faults.texts {
		out = append(out, Finding{c.name, text})
	}
	return out
}

// fault records what the contract wants and what was seen instead.
func (p *probe) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.faults.add(text, "%s", text)
}

// withLink runs a part of a check with a source that is started and no more.
func (p *probe) withLink(parent bool, f func(*link)) {
	l, err := p.open(parent)
	if err != nil {
		p.fault("it must start: %v", err)
		return
	}
	defer l.close()
	f(l)
}

// withSession runs a part of a check with a source that runs, and judges what it says.
func (p *probe) withSession(ctx context.Context, f func(*session)) {
	s, err := p.begin(ctx)
	if err != nil {
		p.fault("it must run: %v", err)
		return
	}
	f(s)
	for _, text := range s.end() {
		p.fault("%s", text)
	}
}

// presentities returns those that options name, and a made-up one if they name none.
func (p *probe) presentities(s *session) []string {
	var out []string
	for _, w := range p.Watch {
		out = append(out, w.Presentity)
	}
	if len(out) == 0 {
		return p.invent(s, 1)
	}
	return out
}

// invent makes presentities up that the source serves.
func (p *probe) invent(s *session, n int) []string {
	forms := []func(int) string{
		func(i int) string { return fmt.Sprintf("sip:plugintest-%d@example.com", i) },
		func(i int) string { return fmt.Sprintf("tel:+3161%07d", i) },
		func(i int) string { return fmt.Sprintf("sip:%d@example.com", 1000+i) },
		func(i int) string { return fmt.Sprintf("mailto:plugintest-%d@example.com", i) },
	}
	if p.Presentity != nil {
		forms = [](func(int) string){p.Presentity}
	}
	for _, form := range forms {
		if !s.served(form(0)) {
			continue
		}
		out := make([]string, n)
		for i := range out {
			out[i] = form(i)
		}
		return out
	}
	p.fault("Options.Presentity must make presentities up that serves %q matches", s.about.GetServes())
	return nil
}
