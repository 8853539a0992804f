package plugin

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxMessage is how large a message may be either way, in bytes.
const MaxMessage = 1 << 20

const (
	longestPresentity = 1024 // bytes
	longestText       = 256  // bytes, of what is for people
	longestProblem    = 1024 // bytes, of what is wrong with a key
)

// about is a source's description, understood.
type about struct {
	Description
	serves []*regexp.Regexp
}

// understand compiles a description, or says what is wrong with it.
func understand(d Description) (*about, error) {
	if d.Name == "" || d.Version == "" {
		return nil, errors.New("source: Describe gives no Name or no Version")
	}
	if d.Batch < 0 {
		return nil, fmt.Errorf("source: Describe gives a Batch of %d: it is 0 or more", d.Batch)
	}
	a := &about{Description: d}
	for _, s := range d.Serves {
		re, err := regexp.Compile("^(?:" + s + ")$")
		if err != nil {
			return nil, fmt.Errorf("source: Describe: Serves: %w", err)
		}
		a.serves = append(a.serves, re)
	}
	return a, nil
}

// serve tells whether the source can speak for a presentity.
func (a *about) serve(presentity string) bool {
	for _, re := range a.serves {
		if re.MatchString(presentity) {
			return true
		}
	}
	return len(a.serves) == 0
}

// mayClaim tells whether a claim may be said. A mistake in it is logged, with the field; the
// host never sees it.
func (h *host) mayClaim(c Claim) bool {
	field := ""
	switch {
	case c.Availability > DoNotDisturb:
		field = "Availability"
	case c.Forward > ToNumber:
		field = "Forward"
	case !c.Since.IsZero() && !c.Until.IsZero() && c.Until.Before(c.Since):
		field = "Until (before Since)"
	case !sane(c.Since):
		field = "Since"
	case !sane(c.Until):
		field = "Until"
	}
	if field != "" {
		h.mistake("a claim is wrong and was dropped", "presentity", cut(c.Presentity), "field", field)
		return false
	}
	return h.mayName("claim", c.Presentity)
}

// maySubscribe is mayClaim of a subscription.
func (h *host) maySubscribe(s Subscription) bool {
	field := ""
	switch {
	case s.State < Requesting || s.State > Failed:
		field = "State"
	case s.RetryAfter < 0:
		field = "RetryAfter"
	}
	if field != "" {
		h.mistake("a subscription is wrong and was dropped", "presentity", cut(s.Presentity), "field", field)
		return false
	}
	return h.mayName("subscription", s.Presentity)
}

// mayName tells whether a presentity may be spoken of.
func (h *host) mayName(what, presentity string) bool {
	switch {
	case !valid(presentity):
		h.mistake("a "+what+" is wrong and was dropped", "presentity", cut(presentity), "field", "Presentity")
	case !h.about.serve(presentity):
		h.mistake("a "+what+" is of a presentity that Describe's Serves leaves out: dropped", "presentity", presentity)
	case !h.speaks(presentity):
		// It may just have been unwatched: no mistake then.
		if h.mistakes.allow() {
			slog.Info("source: a "+what+" is of a presentity that is not watched: dropped", "presentity", presentity)
		}
	default:
		return true
	}
	return false
}

// mistake logs one of the author's, but not thousands.
func (h *host) mistake(text string, attrs ...any) {
	if h.mistakes.allow() {
		slog.Error("source: "+text, attrs...)
	}
}

// valid tells whether a presentity can be told to the host at all.
func valid(presentity string) bool {
	return presentity != "" && len(presentity) <= longestPresentity && utf8.ValidString(presentity)
}

// sane tells whether a time can be told: in years that protobuf's Timestamp has.
func sane(t time.Time) bool { return t.IsZero() || t.Year() >= 1970 && t.Year() < 10000 }

// limiter lets ten lines of a kind through each ten seconds.
type limiter struct {
	mu    sync.Mutex
	since time.Time
	n     int
}

func (l *limiter) allow() bool {
	const most, each = 10, 10 * time.Second
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) > each {
		l.since, l.n = now, 0
	}
	l.n++
	return l.n <= most
}
