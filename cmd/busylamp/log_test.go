package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// blockedWriter lets nobody through until it is opened.
type blockedWriter struct {
	open chan struct{}
	bytes.Buffer
}

func (w *blockedWriter) Write(b []byte) (int, error) {
	<-w.open
	return w.Buffer.Write(b)
}

// A reader that does not read holds nothing up: lines are dropped and counted.
func TestLogNeverWaits(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	l := newLogWriter(w)
	log := newLogger(logConfig{Level: "info", Format: "json"}, l)
	for i := range maxLogLines + 100 {
		log.Info("line", "n", i)
	}
	close(w.open)
	l.close()
	out := w.String()
	if n := strings.Count(out, `"msg":"line"`); n < maxLogLines || n > maxLogLines+1 {
		t.Errorf("%d lines were written", n)
	}
	if !strings.Contains(out, "log lines were dropped") {
		t.Error("nothing says that lines were dropped")
	}
}

func TestLogLevelAndFormat(t *testing.T) {
	var w bytes.Buffer
	log := newLogger(logConfig{Level: "warn", Format: "text"}, &w)
	log.Info("quiet")
	log.Warn("loud", "key", `a "quoted" value`)
	if out := w.String(); strings.Contains(out, "quiet") || !strings.Contains(out, `key="a \"quoted\" value"`) {
		t.Errorf("wrote %q", out)
	}
	if log.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("info is enabled")
	}
}

// TestQuotas: of many lines a few are told at once and fifty a second, each source for itself;
// the rest is counted, and the count told once a second.
func TestQuotas(t *testing.T) {
	var q quotas
	now := time.Unix(0, 0)
	told, untold, reports := 0, 0, 0
	say := func(source string, n int) {
		if source != "one" {
			t.Errorf("%d lines of %q were not told", n, source)
		}
		untold += n
		reports++
	}
	const all = 10 * 1000
	for range all {
		now = now.Add(time.Millisecond)
		q.tell(now, say)
		if q.lets("one", now) {
			told++
		}
		if now.UnixMilli()%100 == 0 && !q.lets("two", now) {
			t.Error("the calm source's line was not told")
		}
	}
	q.tell(now.Add(time.Hour), say)
	if told+untold != all || told < 690 || told > 710 || reports < 8 || reports > 11 {
		t.Errorf("%d lines were told, %d were not, in %d reports", told, untold, reports)
	}
	q.tell(now.Add(2*time.Hour), func(string, int) { t.Error("told again") })
	if !q.lets("one", now.Add(2*time.Hour)) {
		t.Error("it never recovers")
	}
}

// TestTellIsBounded: a plugin that changes its mind about a hundred people all the time does
// not fill the log, by claims or by subscriptions; what calls change is told all the same.
func TestTellIsBounded(t *testing.T) {
	cfg := smallConfig()
	cfg.Sources = []sourceConfig{{Name: "one"}}
	e, err := busylamp.New(busylamp.Config{Directory: newDirectory(cfg), Proxies: []string{"proxy1"},
		Publishers: []busylamp.PublisherConfig{{Name: "presence"}}, Sources: []busylamp.SourceConfig{{Name: "one"}}})
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	s := &sidecar{cfg: cfg, log: slog.New(slog.NewTextHandler(&w, nil))}
	e.Connected(0, "1")
	user := func(i int) busylamp.Presentity { return busylamp.Presentity(fmt.Sprintf("sip:user%d@example.com", i)) }
	for i := range 100 {
		e.Watch(user(i), "test", 0)
	}
	e.Report(0, busylamp.SourceReport{Up: &busylamp.SourceInfo{Unasked: true}})
	s.tell(e.Take())
	const rounds = 200
	for round := range rounds {
		var r busylamp.SourceReport
		for i := range 100 {
			// It lapses before the next round.
			r.Statements = append(r.Statements, busylamp.Statement{Presentity: user(i), State: busylamp.Busy, For: time.Second})
			r.Subscriptions = append(r.Subscriptions, busylamp.SubscriptionReport{Presentity: user(i),
				State: []busylamp.SubscriptionState{busylamp.Subscribed, busylamp.Terminated}[round%2]})
		}
		e.Report(0, r)
		e.Advance(time.Duration(round) * time.Second)
		e.Calls(0, []busylamp.CallEvent{{Dialog: busylamp.DialogID{Entry: uint32(round), ID: 1}, Stage: busylamp.Confirmed,
			Caller: fmt.Sprintf("sip:caller%d@example.com", round), Callee: "none"}})
		s.tell(e.Take())
	}
	kinds := map[string]int{}
	for line := range strings.Lines(w.String()) {
		switch {
		case strings.Contains(line, "sip:caller"):
			kinds["call"]++
		case strings.Contains(line, "sip:user"):
			kinds["user"]++
		}
	}
	if kinds["call"] != rounds || kinds["user"] < quotaSize || kinds["user"] > 2*quotaSize {
		t.Errorf("lines told: %v", kinds)
	}
	s.quotas.tell(time.Now().Add(quotaReport), func(source string, n int) {
		if source != "one" || n < 50*rounds {
			t.Errorf("%d changes of %q were not told", n, source)
		}
	})
}
