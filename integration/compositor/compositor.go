// Package compositor is a presence server in memory and in virtual time: the event state
// compositor of RFC 3903 section 6, and the ways in which real ones stray from it. The
// random schedules of the core run against it, and so that they prove something, a real
// presence server and this one answer one suite of requests (integration/contract_test.go).
//
// It imports nothing of ours, so that the core's own tests can import it.
package compositor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Server holds the publications of presentities. The zero value is ready and well. Times
// are since a moment that the caller chooses, and never go back.
type Server struct {
	// Least is the shortest lifetime that it grants: a shorter one is answered 423. Most is
	// the longest: a longer one is cut to it. 0 is no limit.
	Least, Most time.Duration
	// ForgetsBodies has a refresh without a body lose the one that was published before, as
	// Kamailio's presence module does when it keeps publications in memory alone.
	ForgetsBodies bool
	// Lingers is for how long after its end a publication can still be refreshed, though
	// nobody is shown it: in Kamailio, until the table is cleaned (100 s).
	Lingers time.Duration

	published map[string]map[string]*Publication // by presentity and entity-tag
	serial    int
	brand     int
}

// Publication is one that a server holds.
type Publication struct {
	Tag     string        // its entity-tag
	Body    string        // the state, "" when it was forgotten
	Expires time.Duration // when it ends
	serial  int
}

// Request is what matters of a PUBLISH.
type Request struct {
	Presentity string
	Tag        string        // SIP-If-Match, "" for none
	Expires    time.Duration // a lifetime; 0 removes
	Body       string        // "" for none
}

// Response is what matters of the answer.
type Response struct {
	Code       int
	Tag        string        // SIP-ETag of a 200, "" for none
	Expires    time.Duration // of a 200: the lifetime granted
	MinExpires time.Duration // of a 423
}

// Publish takes a request. The steps are those of RFC 3903 section 6; what it leaves to the
// transport and to policy (steps 1 and 2) is not here.
func (s *Server) Publish(r Request, now time.Duration) Response {
	s.expire(r.Presentity, now)
	old := s.published[r.Presentity][r.Tag]
	switch { // step 3
	case r.Tag != "" && r.Expires > 0 && !strings.HasPrefix(r.Tag, s.prefix()):
		return Response{Code: 500} // not the RFC's 412: so does Kamailio with a tag of another make
	case r.Tag != "" && old == nil:
		return Response{Code: 412}
	case r.Tag == "" && r.Body == "":
		return Response{Code: 400} // step 5: an initial publication has a body
	}
	life := r.Expires // step 4
	if s.Most > 0 {
		life = min(life, s.Most)
	}
	if life > 0 && life < s.Least {
		return Response{Code: 423, MinExpires: s.Least}
	}
	delete(s.published[r.Presentity], r.Tag)
	if life == 0 {
		return Response{Code: 200}
	}
	next := s.add(r.Presentity, r.Body, now+life)
	if r.Body == "" && !s.ForgetsBodies {
		next.Body = old.Body
	}
	return Response{Code: 200, Tag: next.Tag, Expires: life}
}

// add stores a publication under a tag that was never used (step 6).
func (s *Server) add(presentity, body string, expires time.Duration) *Publication {
	if s.published == nil {
		s.published = make(map[string]map[string]*Publication)
	}
	if s.published[presentity] == nil {
		s.published[presentity] = make(map[string]*Publication)
	}
	s.serial++
	p := &Publication{Tag: fmt.Sprint(s.prefix(), s.serial), Body: body, Expires: expires, serial: s.serial}
	s.published[presentity][p.Tag] = p
	return p
}

func (s *Server) prefix() string { return fmt.Sprintf("tag%d.", s.brand) }

// expire lets go what has expired, and does not linger.
func (s *Server) expire(presentity string, now time.Duration) {
	for tag, p := range s.published[presentity] {
		if now >= p.Expires+s.Lingers {
			delete(s.published[presentity], tag)
		}
	}
}

// Published returns what a presentity has published and has not expired, the oldest first.
func (s *Server) Published(presentity string, now time.Duration) []Publication {
	s.expire(presentity, now)
	var live []Publication
	for _, p := range s.published[presentity] {
		if now < p.Expires {
			live = append(live, *p)
		}
	}
	slices.SortFunc(live, func(a, b Publication) int { return a.serial - b.serial })
	return live
}

// Forget empties the table, as a restart without a database does. Tags of before are
// unknown from now on.
func (s *Server) Forget() { s.published = nil }

// Replace puts a server of another make with an empty table in the place of this one: tags
// of before are malformed to it.
func (s *Server) Replace() {
	s.Forget()
	s.brand++
}
