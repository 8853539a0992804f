package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// Bounds of traces.
const (
	maxTraces    = 8   // at a time
	maxTraced    = 256 // messages that wait for a slow reader
	maxTraceTime = 24 * time.Hour
	traceTime    = 10 * time.Minute // where nothing is said
	traceGrace   = 5 * time.Second  // after it, for the last words
)

// tracer shows the SIP messages about one presentity until stop is called. f is called
// from several goroutines, and must not keep any of them waiting. An error says that too
// many look on already.
type tracer interface {
	Trace(who busylamp.Presentity, f func(sipnet.Traced)) (stop func(), err error)
}

// traceQuery is what /api/v1/trace is asked for.
type traceQuery struct {
	who        busylamp.Presentity
	publishers []int // in the configuration's order
	life       time.Duration
}

// httpError is an error with its status code.
type httpError struct {
	code int
	text string
}

func (e *httpError) Error() string { return e.text }

func newTraceQuery(cfg config, q url.Values) (traceQuery, *httpError) {
	bad := func(code int, format string, args ...any) (traceQuery, *httpError) {
		return traceQuery{}, &httpError{code, fmt.Sprintf(format, args...)}
	}
	who, err := whose(q.Get("presentity"))
	if err != nil {
		return bad(http.StatusBadRequest, "%v", err)
	}
	out := traceQuery{who: who, life: traceTime}
	if !slices.Contains(cfg.Domains, who.Domain()) {
		return bad(http.StatusBadRequest, "presentity %s is in none of the configured domains, so that nothing is published for it: "+
			"write it as /api/v1/presentities does", who)
	}
	if text := q.Get("for"); text != "" {
		if out.life, err = time.ParseDuration(text); err != nil || out.life < time.Second || out.life > maxTraceTime {
			return bad(http.StatusBadRequest, "for: %s is not a duration from 1s to 24h: write such as 10m", quote(text))
		}
	}
	var names []string
	for i, p := range cfg.Publishers {
		names = append(names, p.Name)
		if name := q.Get("publisher"); name == "" || name == p.Name {
			out.publishers = append(out.publishers, i)
		}
	}
	if len(out.publishers) == 0 {
		return bad(http.StatusNotFound, "publisher %s is not configured: write %s", quote(q.Get("publisher")), either(names))
	}
	return out, nil
}

// whose reads the presentity that somebody asks for. In a query a "+" that nobody has escaped
// is a space, which no URI has.
func whose(text string) (busylamp.Presentity, error) {
	who, err := busylamp.ParsePresentity(strings.ReplaceAll(text, " ", "+"))
	if err != nil {
		return "", fmt.Errorf("presentity: %w: write it like sip:alice@example.com", err)
	}
	return who, nil
}

// traced holds the messages that are not yet written.
type traced struct {
	messages chan tracedMessage
	dropped  atomic.Uint64
}

type tracedMessage struct {
	publisher string
	sipnet.Traced
}

// put never waits: a reader that is slow must not hold up who publishes.
func (t *traced) put(publisher string, m sipnet.Traced) {
	select {
	case t.messages <- tracedMessage{publisher, m}:
	default:
		t.dropped.Add(1)
	}
}

// trace answers /api/v1/trace?presentity=&publisher=&for=: the SIP messages about one
// presentity, as they come, at one or all publishers. It ends when the time is up, nobody
// reads any more, or the sidecar ends, which is when ctx does.
func (s *sidecar) trace(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	q, bad := newTraceQuery(s.cfg, r.URL.Query())
	if bad != nil {
		http.Error(w, bad.text, bad.code)
		return
	}
	select {
	case s.traces <- struct{}{}:
		defer func() { <-s.traces }()
	default:
		http.Error(w, fmt.Sprintf("%d traces are under way, and no more are possible: end one of them", maxTraces), http.StatusTooManyRequests)
		return
	}
	t := &traced{messages: make(chan tracedMessage, maxTraced)}
	for _, i := range q.publishers {
		name := s.cfg.Publishers[i].Name
		stop, err := s.tracers[i].Trace(q.who, func(m sipnet.Traced) { t.put(name, m) })
		if err != nil {
			http.Error(w, err.Error(), http.StatusTooManyRequests)
			return
		}
		defer stop()
	}
	// The server's own deadline would end it after seconds.
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(q.life + traceGrace)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprint(w, s.traceNotes(q))
	if control.Flush() == nil {
		t.copyTo(ctx, w, r, q.life)
	}
}

// traceNotes says why there may be nothing to see.
func (s *sidecar) traceNotes(q traceQuery) (text string) {
	for _, i := range q.publishers {
		p := s.cfg.Publishers[i]
		if f, err := newFilter(p.Filter); err == nil && !f.wants(q.who) {
			text += fmt.Sprintf("… the filter of publisher %s leaves out %s\n\n", p.Name, q.who)
		}
	}
	return text
}

// copyTo writes messages until the end, and says what that was.
func (t *traced) copyTo(ctx context.Context, w http.ResponseWriter, r *http.Request, life time.Duration) {
	control := http.NewResponseController(w)
	end, why := time.NewTimer(life), ""
	defer end.Stop()
	for why == "" || len(t.messages) > 0 {
		text := ""
		select {
		case m := <-t.messages:
			text = m.String()
			if n := t.dropped.Swap(0); n > 0 {
				text += fmt.Sprintf("… %s dropped: they were not read fast enough\n\n", count(int(n), "message", "messages"))
			}
		case <-end.C:
			why = life.String() + " have passed"
		case <-ctx.Done():
			why = "the sidecar stops"
			if errors.Is(context.Cause(ctx), busylamp.ErrHandOver) {
				why = "the sidecar has a new configuration"
			}
			ctx = context.WithoutCancel(ctx)
		case <-r.Context().Done():
			return
		}
		if _, err := fmt.Fprint(w, text); err != nil || control.Flush() != nil {
			return
		}
	}
	control.SetWriteDeadline(time.Now().Add(traceGrace)) // the machine may have slept
	fmt.Fprintf(w, "… ended: %s\n", why)
}

// String shows a message on a terminal, where a stranger's control characters do nothing.
func (m tracedMessage) String() string {
	arrow, from := "->", "from"
	if !m.Sent {
		arrow, from = "<-", "to"
	}
	return fmt.Sprintf("%s %s %s %s (%s, %s %s)\n%s\n\n", m.Time.Format("15:04:05.000"), arrow, m.Remote, m.Transport,
		m.publisher, from, m.Local, printable(m.Message))
}

// printable escapes what is neither printed nor the end of a line, and takes empty lines
// off the end.
func printable(s string) string {
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	plain := func(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case plain(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b.String()
}
