package stack

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Notifier is a server that answers SUBSCRIBE (RFC 6665), for any number of subscriptions,
// as a test wants, and keeps count. It knows nothing of its own: everybody is as [Notifier.Set]
// says, and available before that.
type Notifier struct {
	Addr string

	socket *socket
	grant  time.Duration // 0: what is asked for
	quit   chan struct{}
	alive  sync.WaitGroup

	mu       sync.Mutex
	refuse   func(user string) string
	said     map[string]string    // documents, by user
	subs     map[string]*notified // by their dialogs
	byUser   map[string]map[*notified]bool
	pending  map[string]*notifying // NOTIFYs without an answer, by branch
	answers  map[string]string     // of recent SUBSCRIBEs, by branch
	recent   []string
	arrivals []time.Time // of SUBSCRIBEs that begin a subscription
	counts   NotifierCounts
}

// NotifierCounts are what a [Notifier] has seen.
type NotifierCounts struct {
	Initial, Refreshes, Ended int // SUBSCRIBEs, without repetitions
	Repeats                   int
	Notifies, Again           int // NOTIFYs sent, and how many of them were repetitions
	Lost                      int // subscriptions that ended because no NOTIFY was answered, or with an error
}

// notified is a subscription's dialog, as its notifier sees it.
type notified struct {
	key, user, event string
	from             netip.AddrPort
	target           string // the watcher's contact
	local, remote    string // the To and From of its NOTIFYs' dialog: ours, and the watcher's
	callID           string
	cseq             int
	until            time.Time
}

// notifying is a NOTIFY on its way.
type notifying struct {
	sub   *notified
	text  string
	at    time.Time // of the next repetition
	wait  time.Duration
	until time.Time
}

// notifierTick is how often repetitions are looked for.
const notifierTick = 100 * time.Millisecond

// Notifier starts a notifier that grants a subscription at most so long; 0: as long as is
// asked for.
func (s *Stack) Notifier(grant time.Duration) (*Notifier, error) {
	n := &Notifier{grant: grant, quit: make(chan struct{}), said: make(map[string]string), subs: make(map[string]*notified),
		byUser: make(map[string]map[*notified]bool), pending: make(map[string]*notifying), answers: make(map[string]string)}
	port := 0
	if err := ports(&port); err != nil {
		return nil, err
	}
	var err error
	if n.socket, err = openSocket(port); err != nil {
		return nil, err
	}
	n.Addr = n.socket.addr.String()
	go n.socket.serve(n.arrived)
	n.alive.Go(n.repeat)
	s.onClose(func() error {
		close(n.quit)
		n.alive.Wait()
		return n.socket.close()
	})
	return n, nil
}

// Refuse has SUBSCRIBEs that begin a subscription answered with what f says of a user, such
// as "403 Forbidden", with further header lines behind it if need be; "" takes it. A nil f
// takes all.
func (n *Notifier) Refuse(f func(user string) string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = f
}

// Set says how a user is, by a document of their package, and tells all that watch.
func (n *Notifier) Set(user, document string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said[user] = document
	for sub := range n.byUser[user] {
		n.notify(sub, "")
	}
}

// Terminate ends the subscriptions to a user, with a reason of RFC 6665 section 4.1.3, and
// parameters behind it if need be, such as "probation;retry-after=5".
func (n *Notifier) Terminate(user, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for sub := range n.byUser[user] {
		n.notify(sub, reason)
		n.drop(sub)
	}
}

// Forget drops all subscriptions without a word, as a restart does.
func (n *Notifier) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.subs)
	clear(n.byUser)
	clear(n.pending)
}

// Live returns how many subscriptions there are that have not expired.
func (n *Notifier) Live() (live int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for _, sub := range n.subs {
		if sub.until.After(now) {
			live++
		}
	}
	return live
}

// Counts returns what was seen so far.
func (n *Notifier) Counts() NotifierCounts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// Peak returns how many SUBSCRIBEs that begin a subscription came in the second that had the
// most, whenever that second began, and how long it took from the first of all to the last.
func (n *Notifier) Peak() (most int, span time.Duration) {
	n.mu.Lock()
	at := slices.Clone(n.arrivals)
	n.mu.Unlock()
	if len(at) == 0 {
		return 0, 0
	}
	slices.SortFunc(at, time.Time.Compare)
	first := 0
	for i, t := range at {
		for t.Sub(at[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most, at[len(at)-1].Sub(at[0])
}

// arrived takes a request or a response.
func (n *Notifier) arrived(m *message, from netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch m.method() {
	case "SUBSCRIBE":
		n.subscribe(m, from)
	case "NOTIFY":
		n.answered(m)
	default:
		n.socket.send(from, m.response("200 OK", "notifier", "", "")) // OPTIONS
	}
}

// subscribe answers a SUBSCRIBE, and has a NOTIFY follow (RFC 6665 section 4.2.2).
func (n *Notifier) subscribe(m *message, from netip.AddrPort) {
	branch := m.branch()
	if answer, repeated := n.answers[branch]; repeated {
		n.counts.Repeats++
		n.socket.send(from, answer)
		return
	}
	status, extra, sub := n.decide(m, from)
	expires := max(m.number("expires"), 0)
	if n.grant > 0 {
		expires = min(expires, int(n.grant.Seconds()))
	}
	tag := ""
	if sub != nil {
		tag = parameter(sub.local, "tag")
		sub.until = m.at.Add(time.Duration(expires) * time.Second)
		extra = fmt.Sprintf("Expires: %d\r\nContact: <sip:%s>\r\n", expires, n.Addr)
	}
	answer := m.response(status, tag, extra, "")
	n.socket.send(from, answer)
	n.answers[branch] = answer
	if n.recent = append(n.recent, branch); len(n.recent) > rememberedAnswers {
		delete(n.answers, n.recent[0])
		n.recent = n.recent[1:]
	}
	if sub == nil {
		return
	}
	if expires > 0 {
		n.notify(sub, "")
		return
	}
	n.notify(sub, "timeout")
	n.drop(sub)
}

// decide returns the answer to a SUBSCRIBE, and the subscription if it is taken.
func (n *Notifier) decide(m *message, from netip.AddrPort) (status, extra string, sub *notified) {
	event, _, _ := strings.Cut(m.get("event"), ";")
	event = strings.TrimSpace(event)
	key := m.get("call-id") + " " + parameter(m.get("from"), "tag") + " " + parameter(m.get("to"), "tag")
	if parameter(m.get("to"), "tag") != "" {
		sub := n.subs[key]
		switch {
		case sub == nil || sub.until.Before(m.at):
			return "481 Subscription Does Not Exist", "", nil
		case m.number("expires") == 0:
			n.counts.Ended++
		default:
			n.counts.Refreshes++
		}
		return "200 OK", "", sub
	}
	n.counts.Initial++
	n.arrivals = append(n.arrivals, m.at)
	if event != "presence" && event != "dialog" {
		return "489 Bad Event", "Allow-Events: presence, dialog\r\n", nil
	}
	user := userOf(m.uri())
	if n.refuse != nil {
		if no := n.refuse(user); no != "" {
			status, extra, _ = strings.Cut(no, "\r\n")
			return status, extra, nil
		}
	}
	tag := rand.Text()
	sub = &notified{key: key + tag, user: user, event: event, from: from, target: address(m.get("contact")),
		local: m.get("to") + ";tag=" + tag, remote: m.get("from"), callID: m.get("call-id")}
	n.subs[sub.key] = sub
	if n.byUser[user] == nil {
		n.byUser[user] = make(map[*notified]bool)
	}
	n.byUser[user][sub] = true
	return "200 OK", "", sub
}

// drop forgets a subscription.
func (n *Notifier) drop(sub *notified) {
	delete(n.subs, sub.key)
	if delete(n.byUser[sub.user], sub); len(n.byUser[sub.user]) == 0 {
		delete(n.byUser, sub.user)
	}
}
