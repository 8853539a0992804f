package stack

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Publish is a PUBLISH that a [Recorder] has received.
type Publish struct {
	At      time.Time
	User    string // the presentity's user part
	IfMatch string // SIP-If-Match
	Expires int    // seconds, -1 for none
	Body    string
	Text    string // the whole request
	Status  int    // of the answer
	Tag     string // the answer's SIP-ETag
}

// Kind returns how RFC 3903 calls such a request: initial, refresh, modify or remove.
func (p Publish) Kind() string {
	switch {
	case p.IfMatch == "":
		return "initial"
	case p.Expires == 0:
		return "remove"
	case p.Body == "":
		return "refresh"
	default:
		return "modify"
	}
}

// OnThePhone reports whether the request's body says so.
func (p Publish) OnThePhone() bool { return onThePhone(p.Body) }

// Recorder is a presence server for tests. It keeps every PUBLISH, and answers as RFC 3903
// section 6 says: 200 with a new entity-tag and the Expires that was asked for, or 412 to
// a tag that is not there.
type Recorder struct {
	Addr string

	socket  *socket
	mu      sync.Mutex
	all     []Publish
	live    map[string]publication // by tag
	byUser  map[string][]string    // tags
	answers map[string]string      // to recent requests, by branch: repetitions get the same
	recent  []string
	repeats int
	tags    int
	dead    bool
	unheard []time.Time // requests that arrived while it was dead
}

// publication is a publication that the recorder has.
type publication struct {
	user       string
	onThePhone bool
	until      time.Time
}

// Recorder starts a recorder on a free port.
func (s *Stack) Recorder() (*Recorder, error) {
	r := &Recorder{live: make(map[string]publication), byUser: make(map[string][]string),
		answers: make(map[string]string)}
	port := 0
	if err := ports(&port); err != nil {
		return nil, err
	}
	var err error
	if r.socket, err = openSocket(port); err != nil {
		return nil, err
	}
	go r.socket.serve(r.request)
	r.Addr = r.socket.addr.String()
	s.onClose(r.socket.close)
	return r, nil
}

// rememberedAnswers bounds the answers that are kept for repetitions.
const rememberedAnswers = 8192

func (r *Recorder) request(m *message, from netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead {
		r.unheard = append(r.unheard, m.at)
		return
	}
	branch := m.branch()
	if answer := r.answers[branch]; answer != "" {
		r.repeats++
		r.socket.send(from, answer)
		return
	}
	answer := r.answer(m)
	r.socket.send(from, answer)
	r.answers[branch] = answer
	if r.recent = append(r.recent, branch); len(r.recent) > rememberedAnswers {
		delete(r.answers, r.recent[0])
		r.recent = r.recent[1:]
	}
}

func (r *Recorder) answer(m *message) string {
	if m.method() != "PUBLISH" || m.get("event") != "presence" {
		return m.response("489 Bad Event", "recorder", "", "")
	}
	p := Publish{At: m.at, User: userOf(m.uri()), IfMatch: m.get("sip-if-match"), Expires: m.number("expires"),
		Body: m.body, Text: m.text, Status: 200}
	old, known := r.live[p.IfMatch]
	if p.IfMatch != "" && (!known || old.user != p.User || old.until.Before(m.at)) {
		p.Status = 412
		r.all = append(r.all, p)
		return m.response("412 Conditional Request Failed", "recorder", "", "")
	}
	r.drop(p.User, p.IfMatch)
	r.tags++
	p.Tag = fmt.Sprintf("e%x.%d", m.at.UnixNano(), r.tags)
	if p.Expires != 0 {
		lit := p.OnThePhone() || p.Body == "" && old.onThePhone
		r.live[p.Tag] = publication{p.User, lit, m.at.Add(time.Duration(p.Expires) * time.Second)}
		r.byUser[p.User] = append(r.byUser[p.User], p.Tag)
	}
	r.all = append(r.all, p)
	return m.response("200 OK", "recorder", fmt.Sprintf("SIP-ETag: %s\r\nExpires: %d\r\n", p.Tag, p.Expires), "")
}

func (r *Recorder) drop(user, tag string) {
	if _, ok := r.live[tag]; !ok {
		return
	}
	delete(r.live, tag)
	rest := r.byUser[user][:0]
	for _, t := range r.byUser[user] {
		if t != tag {
			rest = append(rest, t)
		}
	}
	if len(rest) == 0 {
		delete(r.byUser, user)
	} else {
		r.byUser[user] = rest
	}
}

// Die lets nothing be answered or recorded until Revive.
func (r *Recorder) Die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead, r.unheard = true, nil
}

// Revive ends that, and returns when packets arrived meanwhile. What was published before
// is still there.
func (r *Recorder) Revive() (unheard []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = false
	return r.unheard
}

// All returns every PUBLISH so far, in the order of arrival.
func (r *Recorder) All() []Publish {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Publish(nil), r.all...)
}

// Count returns how many PUBLISH requests there were, and how many repetitions of them.
func (r *Recorder) Count() (requests, repeats int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all), r.repeats
}

// Reset forgets the requests so far, but no publication.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.repeats = nil, 0
}

// Lit returns the users that somebody who looks now would see on the phone, and by how
// many publications.
func (r *Recorder) Lit() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	lit := make(map[string]int)
	for user, tags := range r.byUser {
		for _, tag := range tags {
			if p := r.live[tag]; p.onThePhone && p.until.After(now) {
				lit[user]++
			}
		}
	}
	return lit
}

// ByUser groups requests.
func ByUser(all []Publish) map[string][]Publish {
	users := make(map[string][]Publish)
	for _, p := range all {
		users[p.User] = append(users[p.User], p)
	}
	return users
}

// Compare returns an error that names those whose lamps are wrong: lit though they are in
// no call, or dark though they are in one.
func Compare(lit, inCalls map[string]int) error {
	var wrong []string
	n := 0
	note := func(format string, args ...any) {
		if n++; n <= 5 {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	for user := range lit {
		if inCalls[user] == 0 {
			note("%s is lit and in no call", user)
		}
	}
	for user, calls := range inCalls {
		if lit[user] == 0 {
			note("%s is dark and in %d calls", user, calls)
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d lamps are wrong: %s", n, len(lit)+len(inCalls), strings.Join(wrong, ", "))
}
