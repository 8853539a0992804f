package main

import (
	"bytes"
	"slices"
	"strconv"
	"time"
)

// Users of the load are a0, a1... who call b0, b1...
const maxUsers = 1 << 21

// user is what a [registry] keeps of one.
type user struct {
	answered  int64  // when the proxy got the 200 OK of the call, ns since 1970; 0: never
	confirmed int64  // when the first PUBLISH arrived that says "in a call"
	branch    uint64 // of the last request, by hash: repetitions get the same answer
	tag       uint32 // what it was answered with; 0: with a 412
}

// publication is one that is known by its entity-tag, which is its place in registry.all.
type publication struct {
	user  int32
	live  bool
	lit   bool // its document says: in a call, or about to
	until int64
}

// registry is a presence server's table: publications by entity-tag (RFC 3903 section 6). It
// does not compose or tell anybody. Every kind of body counts as lit unless it says otherwise.
type registry struct {
	users []user
	all   []publication // from 1: 0 is no tag
	Counts
}

// Counts is what has arrived.
type Counts struct {
	Initial, Refresh, Modify, Remove int // accepted
	Unknown                          int // answered 412: that entity-tag is not there
	Repeats                          int // retransmissions
	Bad                              int // not understood
}

// Requests returns how many PUBLISH requests there were.
func (c Counts) Requests() int { return c.Initial + c.Refresh + c.Modify + c.Remove + c.Unknown }

func newRegistry() *registry {
	return &registry{users: make([]user, maxUsers), all: make([]publication, 1, 1<<19)}
}

// place returns where a user such as a17 is kept.
func place(name []byte) (int, bool) {
	if len(name) < 2 || len(name) > 7 || name[0] != 'a' && name[0] != 'b' {
		return 0, false
	}
	n := 0
	for _, c := range name[1:] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	n = n*2 + int(name[0]-'a')
	return n, n < maxUsers
}

// publish takes a PUBLISH that arrived at (ns since 1970) and returns the status of its answer,
// and the entity-tag if that is 200.
func (r *registry) publish(m request, at int64) (status int, tag uint32) {
	i, ok := place(m.user)
	if !ok || len(m.callID) == 0 || len(m.cseq) == 0 {
		r.Bad++
		return 400, 0
	}
	u, branch := &r.users[i], hash(m.via)
	if branch == u.branch {
		r.Repeats++
		if u.tag == 0 {
			return 412, 0
		}
		return 200, u.tag
	}
	u.branch, u.tag = branch, 0
	lit := false
	if len(m.body) > 0 {
		lit = !bytes.Contains(m.body, []byte(">terminated<"))
		if u.confirmed == 0 && (bytes.Contains(m.body, []byte(">confirmed<")) || bytes.Contains(m.body, []byte("on-the-phone"))) {
			u.confirmed = at
		}
	}
	if len(m.ifMatch) > 0 {
		old, ok := parseTag(m.ifMatch)
		if !ok || int(old) >= len(r.all) || r.all[old].user != int32(i) || !r.all[old].live || r.all[old].until < at {
			r.Unknown++
			return 412, 0
		}
		r.all[old].live = false
		if len(m.body) == 0 {
			lit = r.all[old].lit
		}
	}
	switch {
	case m.expires == 0:
		r.Remove++
	case len(m.ifMatch) == 0:
		r.Initial++
	case len(m.body) == 0:
		r.Refresh++
	default:
		r.Modify++
	}
	u.tag = uint32(len(r.all))
	r.all = append(r.all, publication{user: int32(i), live: m.expires > 0, lit: lit, until: at + int64(m.expires)*int64(time.Second)})
	return 200, u.tag
}

// live returns how many publications there are at a time, and how many of them are lit.
func (r *registry) live(at int64) (live, lit int) {
	for _, p := range r.all {
		if !p.live || p.until < at {
			continue
		}
		live++
		if p.lit {
			lit++
		}
	}
	return live, lit
}

// latencies returns the times from the 200 OK to the PUBLISH, in order, of all users that had
// both, and how many had a 200 and no PUBLISH.
func (r *registry) latencies() (times []time.Duration, none int) {
	for _, u := range r.users {
		switch {
		case u.answered != 0 && u.confirmed != 0:
			times = append(times, time.Duration(u.confirmed-u.answered))
		case u.answered != 0:
			none++
		}
	}
	slices.Sort(times)
	return times, none
}

// confirmed returns how many users were ever said to be in a call.
func (r *registry) confirmed() (n int) {
	for i := range r.users {
		if r.users[i].confirmed != 0 {
			n++
		}
	}
	return n
}

const tagPrefix = "busylamp.bench."

func appendTag(b []byte, tag uint32) []byte {
	return strconv.AppendUint(append(b, tagPrefix...), uint64(tag)+1e8, 10)
}

func parseTag(b []byte) (uint32, bool) {
	rest, ok := bytes.CutPrefix(b, []byte(tagPrefix))
	n := 0
	for _, c := range rest {
		if c < '0' || c > '9' || n > 1e9 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint32(n - 1e8), ok && n > 1e8
}

// hash is FNV-1a.
func hash(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
