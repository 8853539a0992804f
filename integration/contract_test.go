package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// presenceServer is a presence server that the contract is about: contract_servers_test.go
// has a simulated and a real one.
type presenceServer interface {
	// publish sends a request as the agent with a number. Agents are apart, as two sidecars
	// are: their documents differ in their ids.
	publish(t *testing.T, agent int, r busylamp.Request) busylamp.Outcome
	// shows returns what watchers see of somebody: the states published, in no order.
	shows(t *testing.T, who busylamp.Presentity) []string
	pass(d time.Duration)
	restart(t *testing.T)
}

// habits are what servers may do differently. They are asserted like the rest.
type habits struct {
	least         time.Duration // the shortest lifetime granted, by 423
	forgetsBodies bool          // a refresh without a body loses the state (not RFC 3903)
	// lingers is for how long at most what has expired can be refreshed all the same (not
	// RFC 3903): until the table is cleaned.
	lingers time.Duration
	// onePerDocument: of two publications with the same ids, watchers see one.
	onePerDocument bool
}

// contract is one run of the suite against one server.
type contract struct {
	presenceServer
	habits
	requests int // answered
	people   int
}

// TestContract: the presence server of the random schedules (TestWorld) and a real one
// answer the same requests alike, so that what the schedules prove holds for the latter.
func TestContract(t *testing.T) {
	t.Parallel() // it waits most of the time
	simulated := 0
	for name, h := range map[string]habits{"by the RFC": {}, "strict": {least: time.Minute},
		"like Kamailio": {forgetsBodies: true, lingers: untidy}} {
		t.Run("simulated "+name, func(t *testing.T) {
			simulated += (&contract{presenceServer: newSimulated(h), habits: h}).run(t)
		})
	}
	began, answered := time.Now(), 0
	for name, h := range map[string]habits{"memory": {forgetsBodies: true, lingers: untidy}, "tables": {lingers: time.Second}} {
		h.onePerDocument = true
		t.Run("kamailio "+name, func(t *testing.T) {
			answered += (&contract{presenceServer: newGenuine(t, h), habits: h}).run(t)
		})
	}
	if answered < 60 {
		t.Errorf("Kamailio answered only %d requests", answered)
	}
	record.Fault(t, "contract", simulated+answered, "%d requests answered by the simulated server in 3 ways, and %d by Kamailio's, in memory and with tables, in %v: alike, but that Kamailio can revive what has expired until it cleans its table, and in memory alone takes a refresh without a body for an empty one",
		simulated, answered, time.Since(began).Round(time.Second))
}

// clauses are the contract, in the order of RFC 3903 section 6.
var clauses = []struct {
	name string
	run  func(*testing.T, *contract, busylamp.Presentity)
}{
	{"a publication's life", theLife},
	{"a tag that nobody has", unknownTag},
	{"a tag of another make", malformedTag},
	{"removal without a tag", removalWithoutTag},
	{"expiry", expiry},
	{"two agents", twoAgents},
	{"initial twice", initialTwice},
	{"too long", tooLong},
	{"too brief", tooBrief},
	{"restart", restarted}, // the last, since it empties the table
}

func (c *contract) run(t *testing.T) int {
	for _, clause := range clauses {
		t.Run(clause.name, func(t *testing.T) {
			c.people++
			clause.run(t, c, busylamp.Presentity(fmt.Sprintf("sip:contract%d@%s", c.people, stack.Domain)))
		})
	}
	return c.requests
}

const (
	life   = 10 * time.Minute  // every server of the suite grants it
	untidy = 100 * time.Second // between two cleanings of Kamailio's table, if nobody says more
)

// ask publishes as the first agent and wants a result.
func (c *contract) ask(t *testing.T, k busylamp.Kind, who busylamp.Presentity, tag string, s busylamp.State, code int) busylamp.Outcome {
	t.Helper()
	r := busylamp.Request{Kind: k, Presentity: who, Tag: tag, State: s, Expires: life}
	if k == busylamp.Remove {
		r.Expires = 0
	}
	return c.send(t, 0, r, code)
}

// send publishes and wants an answer with a code. A 200 to all but a removal must bring a
// tag of its own and a lifetime (RFC 3903 section 6, step 6).
func (c *contract) send(t *testing.T, agent int, r busylamp.Request, code int) busylamp.Outcome {
	t.Helper()
	o := c.publish(t, agent, r)
	if o.Code != code {
		t.Fatalf("%v with tag %q, Expires %v: answered %d %s, want %d", r.Kind, r.Tag, r.Expires, o.Code, o.Reason, code)
	}
	if code == 200 && r.Kind != busylamp.Remove && (o.Tag == "" || o.Tag == r.Tag || o.Expires <= 0) {
		t.Fatalf("%v with tag %q: got the tag %q and the lifetime %v", r.Kind, r.Tag, o.Tag, o.Expires)
	}
	c.requests++
	return o
}

// sees checks what is shown of somebody. Kamailio answers a PUBLISH before it acts on it.
func (c *contract) sees(t *testing.T, who busylamp.Presentity, want ...busylamp.State) {
	t.Helper()
	var names []string
	for _, s := range want {
		names = append(names, s.String())
	}
	slices.Sort(names)
	right := 0 // looks on end
	for range 200 {
		got := c.shows(t, who)
		slices.Sort(got)
		if !slices.Equal(got, names) {
			right = -1
		}
		if right++; right == 2 {
			return
		}
		c.pass(50 * time.Millisecond)
	}
	t.Fatalf("watchers see %v of %s after 10 s, want %v", c.shows(t, who), who, names)
}

// theLife: initial, refresh, modify, remove (RFC 3903 section 4.1). Each success brings a
// new tag, and the old one is of no use any more.
func theLife(t *testing.T, c *contract, who busylamp.Presentity) {
	first := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	if first.Expires != life {
		t.Errorf("granted %v of %v", first.Expires, life)
	}
	c.sees(t, who, busylamp.OnThePhone)
	second := c.ask(t, busylamp.Refresh, who, first.Tag, 0, 200)
	if c.forgetsBodies {
		c.sees(t, who)
	} else {
		c.sees(t, who, busylamp.OnThePhone)
	}
	for _, k := range []busylamp.Kind{busylamp.Refresh, busylamp.Modify, busylamp.Remove} {
		c.ask(t, k, who, first.Tag, busylamp.Away, 412)
	}
	third := c.ask(t, busylamp.Modify, who, second.Tag, busylamp.Busy, 200)
	c.sees(t, who, busylamp.Busy)
	c.ask(t, busylamp.Modify, who, second.Tag, busylamp.Away, 412)
	c.ask(t, busylamp.Remove, who, third.Tag, 0, 200)
	c.sees(t, who)
	for _, k := range []busylamp.Kind{busylamp.Refresh, busylamp.Modify, busylamp.Remove} {
		c.ask(t, k, who, third.Tag, busylamp.Busy, 412)
	}
	c.sees(t, who)
}

// unknownTag: somebody else's tag is nobody's here.
func unknownTag(t *testing.T, c *contract, who busylamp.Presentity) {
	others := c.ask(t, busylamp.Initial, "sip:other-"+who[len("sip:"):], "", busylamp.Busy, 200)
	mine := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	for _, k := range []busylamp.Kind{busylamp.Refresh, busylamp.Modify, busylamp.Remove} {
		c.ask(t, k, who, others.Tag, busylamp.Away, 412)
	}
	c.sees(t, who, busylamp.OnThePhone)
	c.ask(t, busylamp.Remove, who, mine.Tag, 0, 200)
}

// malformedTag: RFC 3903 wants 412; Kamailio answers 500 to all but a removal, and so the
// core doubts a tag that is answered 500 on end.
func malformedTag(t *testing.T, c *contract, who busylamp.Presentity) {
	mine := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	c.ask(t, busylamp.Refresh, who, "of-another-make", 0, 500)
	c.ask(t, busylamp.Modify, who, "of-another-make", busylamp.Away, 500)
	c.ask(t, busylamp.Remove, who, "of-another-make", 0, 412)
	c.sees(t, who, busylamp.OnThePhone)
	c.ask(t, busylamp.Remove, who, mine.Tag, 0, 200)
}

// removalWithoutTag is an initial publication without a body, which section 6, step 5 does
// not allow.
func removalWithoutTag(t *testing.T, c *contract, who busylamp.Presentity) {
	mine := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	c.ask(t, busylamp.Remove, who, "", 0, 400)
	c.sees(t, who, busylamp.OnThePhone)
	c.ask(t, busylamp.Remove, who, mine.Tag, 0, 200)
}

// expiry: what is not refreshed ends by itself, and its tag with it. That is what bounds
// whatever the sidecar's death leaves behind (I1, I3).
func expiry(t *testing.T, c *contract, who busylamp.Presentity) {
	brief := max(c.least, 4*time.Second)
	o := c.send(t, 0, busylamp.Request{Kind: busylamp.Initial, Presentity: who, State: busylamp.OnThePhone, Expires: brief}, 200)
	if o.Expires != brief {
		t.Errorf("granted %v of %v", o.Expires, brief)
	}
	c.sees(t, who, busylamp.OnThePhone)
	c.pass(brief + 1500*time.Millisecond) // servers count whole seconds
	c.sees(t, who)
	if c.lingers < untidy {
		c.pass(2 * c.lingers)
		c.ask(t, busylamp.Refresh, who, o.Tag, 0, 412)
		return
	}
	o = c.ask(t, busylamp.Modify, who, o.Tag, busylamp.Busy, 200)
	c.sees(t, who, busylamp.Busy)
	c.ask(t, busylamp.Remove, who, o.Tag, 0, 200)
}

// twoAgents publish for one presentity, and neither touches the other's.
func twoAgents(t *testing.T, c *contract, who busylamp.Presentity) {
	phone := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	r := busylamp.Request{Kind: busylamp.Initial, Presentity: who, State: busylamp.Away, Expires: life}
	away := c.send(t, 1, r, 200)
	if away.Tag == phone.Tag {
		t.Fatalf("two publications with the tag %q", away.Tag)
	}
	c.sees(t, who, busylamp.OnThePhone, busylamp.Away)
	c.ask(t, busylamp.Remove, who, phone.Tag, 0, 200)
	c.sees(t, who, busylamp.Away)
	r.Kind, r.Tag, r.Expires = busylamp.Remove, away.Tag, 0
	c.send(t, 1, r, 200)
	c.sees(t, who)
}

// initialTwice makes two publications: one too many, if it was one agent, and it shows the
// presentity busy until both have ended (kamailio#4565, opensips#3801).
func initialTwice(t *testing.T, c *contract, who busylamp.Presentity) {
	first := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	second := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	if second.Tag == first.Tag {
		t.Fatalf("two publications with the tag %q", first.Tag)
	}
	if c.onePerDocument {
		c.sees(t, who, busylamp.OnThePhone)
	} else {
		c.sees(t, who, busylamp.OnThePhone, busylamp.OnThePhone)
	}
	c.ask(t, busylamp.Remove, who, second.Tag, 0, 200)
	c.sees(t, who, busylamp.OnThePhone)
	c.ask(t, busylamp.Remove, who, first.Tag, 0, 200)
	c.sees(t, who)
}

// tooLong is cut to what the server grants at most (section 6, step 4).
func tooLong(t *testing.T, c *contract, who busylamp.Presentity) {
	o := c.send(t, 0, busylamp.Request{Kind: busylamp.Initial, Presentity: who, State: busylamp.Busy, Expires: 2 * mostGranted}, 200)
	if o.Expires != mostGranted {
		t.Errorf("granted %v, want %v", o.Expires, mostGranted)
	}
	c.ask(t, busylamp.Remove, who, o.Tag, 0, 200)
}

// tooBrief is answered 423 with the least that the server grants (section 6, step 4), unless
// it grants anything; Kamailio does.
func tooBrief(t *testing.T, c *contract, who busylamp.Presentity) {
	r := busylamp.Request{Kind: busylamp.Initial, Presentity: who, State: busylamp.Busy, Expires: time.Second}
	if c.least == 0 {
		if o := c.send(t, 0, r, 200); o.Expires != time.Second {
			t.Errorf("granted %v of 1 s", o.Expires)
		}
		return
	}
	if o := c.send(t, 0, r, 423); o.MinExpires != c.least {
		t.Errorf("Min-Expires %v, want %v", o.MinExpires, c.least)
	}
	c.sees(t, who)
	r.Expires = c.least
	c.send(t, 0, r, 200)
}

// restarted: with an empty table. Tags of before are well-formed and unknown.
func restarted(t *testing.T, c *contract, who busylamp.Presentity) {
	o := c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	c.restart(t)
	c.sees(t, who)
	for _, k := range []busylamp.Kind{busylamp.Refresh, busylamp.Modify, busylamp.Remove} {
		c.ask(t, k, who, o.Tag, busylamp.Busy, 412)
	}
	c.ask(t, busylamp.Initial, who, "", busylamp.OnThePhone, 200)
	c.sees(t, who, busylamp.OnThePhone)
}
