package pluginhost

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestLogs: all that a plugin writes arrives with its level and its fields, cut and cleaned,
// and a line that would panic go-plugin's own reader does not.
func TestLogs(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	l := listen(t)
	h := newHost(t, quick())
	h.Apply([]Config{of("one", install(t, plugins(t), "raw"), `{"do":"chatter"}`, log)}, l)
	l.up(0)
	for _, line := range []string{
		`level=WARN msg="by slog" source=one key=value n=5`,
		`level=ERROR msg="by hclog" source=one who=sip:a@example.com`,
		`level=INFO msg="{\"@level\":7,\"@message\":8,\"@timestamp\":9}" source=one`,
		`level=INFO msg=[31mred source=one`,
		`level=WARN msg="by prefix" source=one`,
		`level=INFO msg="plain text" source=one`,
		`level=INFO msg="after the long one" source=one`,
		`level=INFO msg="printed to standard output" source=one`,
		`level=INFO msg="printed to standard error" source=one`,
		`level=INFO msg="long yyy`,
		`yyy (cut)" source=one`,
	} {
		log.has(t, line)
	}
	h.Source(0).Watch(watch("sip:print@example.com", alice)) // it does not hang in what it prints
	l.claim(0, alice)
	h.Close()
	log.has(t, `level=WARN msg="the plugin logs too much: lines were dropped" source=one lines=`)
	for line := range strings.Lines(log.String()) {
		if len(line) > 2*maxLine {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestLogRate: lines beyond the rate are dropped and counted.
func TestLogRate(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	l := newLogs(of("one", "", "", log).Log, 10)
	began := time.Now()
	l.read(strings.NewReader(strings.Repeat("x\n", 1000) + "panic: no\nthe end"))
	lines := strings.Count(log.String(), "msg=x")
	if most := 21 + int(10*time.Since(began).Seconds()); lines < 20 || lines > most {
		t.Errorf("%d lines", lines)
	}
	if !strings.Contains(log.String(), "lines were dropped") || l.ending() != "panic: no" {
		t.Errorf("%s\n%s", l.ending(), log)
	}
}

// TestEnding: a crash is known by the line that says why.
func TestEnding(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              "",
		"one\ntwo\n":                    "two",
		"[DEBUG] x\n":                   "",
		"a\npanic: b\n\ngoroutine 1:\n": "panic: b",
		"fatal error: c\nx\n":           "fatal error: c",
		"Traceback (most recent call last):\n  File \"x\", line 1, in y\nValueError: d\n": "ValueError: d",
		`{"@level":"error","@message":"e"}` + "\n":                                        "e",
	} {
		l := newLogs(logger(Config{}), 1000)
		l.read(io.MultiReader(strings.NewReader(text)))
		if got := l.ending(); got != want {
			t.Errorf("%q ends with %q, want %q", text, got, want)
		}
	}
}
