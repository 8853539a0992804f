package stack

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Verdict is what a [Scripted] server does with a PUBLISH. The zero value is what RFC 3903
// section 6 says.
type Verdict struct {
	Ignore bool // neither taken nor answered, as if it had been lost
	Mute   bool // taken, but its answer is lost
	Status string
	Extra  string        // header lines that go with Status
	Delay  time.Duration // of the answer
	Then   func()        // is called once the answer is out
}

// Scripted is a presence server whose answers a test decides on, request by request. It
// keeps a table as RFC 3903 says, and remembers how long each publication lived.
type Scripted struct {
	Addr string

	socket  *socket
	grant   time.Duration // 0: what is asked for
	mu      sync.Mutex
	verdict func(Publish, string) Verdict
	byTag   map[string]*Life
	lives   map[string][]*Life // by user
	answers map[string]string  // by branch; "": none
	recent  []string
	at      []time.Time // requests, when they came
	tags    int
	late    sync.WaitGroup
}

// Life is one publication, under whatever entity-tags.
type Life struct {
	User        string
	OnThePhone  bool
	From, Until time.Time // Until is when it was removed, or expires
	Removed     bool
	tag         string
}

// Scripted starts a scripted server, which grants a lifetime of at most so long; 0: of as
// long as is asked for.
func (s *Stack) Scripted(grant time.Duration) (*Scripted, error) {
	v := &Scripted{grant: grant, byTag: make(map[string]*Life), lives: make(map[string][]*Life), answers: make(map[string]string)}
	port := 0
	if err := ports(&port); err != nil {
		return nil, err
	}
	var err error
	if v.socket, err = openSocket(port); err != nil {
		return nil, err
	}
	v.Addr = v.socket.addr.String()
	go v.socket.serve(v.request)
	s.onClose(func() error {
		err := v.socket.close()
		v.late.Wait()
		return err
	})
	return v, nil
}

// Script says what becomes of the requests from now on. f is called for one at a time, and
// not for repetitions; the second argument is the request's kind: initial, refresh (though
// it may repeat the document), modify or remove. nil is the zero verdict for all.
func (v *Scripted) Script(f func(p Publish, kind string) Verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.verdict = f
}

func (v *Scripted) request(m *message, from netip.AddrPort) {
	if m.method() != "PUBLISH" {
		v.socket.send(from, m.response("200 OK", "scripted", "", "")) // OPTIONS
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	branch := m.branch()
	if answer, repeated := v.answers[branch]; repeated {
		if answer != "" {
			v.socket.send(from, answer)
		}
		return
	}
	v.at = append(v.at, m.at)
	p := Publish{At: m.at, User: userOf(m.uri()), IfMatch: m.get("sip-if-match"), Expires: m.number("expires"), Body: m.body, Text: m.text}
	var verdict Verdict
	if v.verdict != nil {
		verdict = v.verdict(p, v.kind(p))
	}
	answer := ""
	switch {
	case verdict.Ignore:
	case verdict.Status != "":
		answer = m.response(verdict.Status, "scripted", verdict.Extra, "")
	default:
		answer = v.take(m, p)
	}
	if verdict.Mute {
		answer = ""
	}
	v.remember(branch, answer)
	say := func() {
		if answer != "" {
			v.socket.send(from, answer)
		}
		if verdict.Then != nil {
			verdict.Then()
		}
	}
	if verdict.Delay == 0 && verdict.Then == nil {
		say()
		return
	}
	v.late.Go(func() { time.Sleep(verdict.Delay); say() })
}

func (v *Scripted) kind(p Publish) string {
	kind := p.Kind()
	if life := v.byTag[p.IfMatch]; kind == "modify" && life != nil && life.OnThePhone == p.OnThePhone() {
		return "refresh"
	}
	return kind
}

func (v *Scripted) remember(branch, answer string) {
	v.answers[branch] = answer
	if v.recent = append(v.recent, branch); len(v.recent) > rememberedAnswers {
		delete(v.answers, v.recent[0])
		v.recent = v.recent[1:]
	}
}

// take does what RFC 3903 section 6 says, and returns the answer.
func (v *Scripted) take(m *message, p Publish) string {
	life := v.byTag[p.IfMatch]
	switch {
	case p.IfMatch == "" && p.Expires == 0:
		return m.response("400 Bad Request", "scripted", "", "")
	case p.IfMatch == "":
		life = &Life{User: p.User, From: m.at}
		v.lives[p.User] = append(v.lives[p.User], life)
	case life == nil || life.User != p.User || life.Until.Before(m.at):
		return m.response("412 Conditional Request Failed", "scripted", "", "")
	}
	expires := time.Duration(max(p.Expires, 0)) * time.Second
	if v.grant > 0 {
		expires = min(expires, v.grant)
	}
	delete(v.byTag, life.tag)
	v.tags++
	life.tag, life.Until = fmt.Sprintf("s%x.%d", m.at.UnixNano(), v.tags), m.at.Add(expires)
	if life.Removed = p.Expires == 0; !life.Removed {
		v.byTag[life.tag] = life
	}
	if p.Body != "" {
		life.OnThePhone = p.OnThePhone()
	}
	return m.response("200 OK", "scripted", fmt.Sprintf("SIP-ETag: %s\r\nExpires: %d\r\n", life.tag, int(expires.Seconds())), "")
}

// Seed puts a publication into the table, on the phone until a time.
func (v *Scripted) Seed(user, tag string, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	life := &Life{User: user, OnThePhone: true, From: time.Now(), Until: until, tag: tag}
	v.byTag[tag] = life
	v.lives[user] = append(v.lives[user], life)
}

// Forget empties the table, as a restart does.
func (v *Scripted) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for _, life := range v.byTag {
		if life.Until.After(now) {
			life.Until = now
		}
	}
	clear(v.byTag)
}

// Lives returns the publications of a user so far, in the order of their beginning.
func (v *Scripted) Lives(user string) []Life {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]Life, 0, len(v.lives[user]))
	for _, life := range v.lives[user] {
		out = append(out, *life)
	}
	return out
}

// Lit tells by how many publications somebody who looks now would see a user on the phone.
func (v *Scripted) Lit(user string) (n int) {
	now := time.Now()
	for _, life := range v.Lives(user) {
		if life.OnThePhone && life.Until.After(now) {
			n++
		}
	}
	return n
}

// Live returns how many publications the table holds.
func (v *Scripted) Live() (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for _, life := range v.byTag {
		if life.Until.After(now) {
			n++
		}
	}
	return n
}

// Requests returns when the PUBLISH requests came, without repetitions.
func (v *Scripted) Requests() []time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]time.Time(nil), v.at...)
}

// Second returns for how long at most a user had more than one publication at a time.
func (v *Scripted) Second(user string) (longest time.Duration) {
	lives := v.Lives(user)
	for i, a := range lives {
		for _, b := range lives[:i] {
			from, until := a.From, a.Until
			if b.Until.Before(until) {
				until = b.Until
			}
			longest = max(longest, until.Sub(from))
		}
	}
	return longest
}
