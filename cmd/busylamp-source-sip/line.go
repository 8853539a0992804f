package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/rlmi"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/plugin"
)

// line is the way to an account's server.
type line struct {
	account *account
	agent   string
	timeout time.Duration
	config  sipnet.Config
	client  *sipnet.Client
	peers   peers
	route   *sip.RouteHeader // to the server, where requests go to an outbound proxy first
	life    context.Context  // of its requests
	busy    sync.WaitGroup

	// What follows is the watcher's.
	denied  string // why the server refuses our account; "" if it does not
	unknown bool   // it does not know our account
	heard   bool   // it has answered something
	down    bool   // it cannot be reached
	why     string
	next    chan question
	pause   time.Duration // between two of our asking a server that refuses us
	again   time.Time     // when it may be asked again that does
}

// Times between two times of asking a server for a word: while it is well, which keeps a way
// through a NAT open, too; while it cannot be reached; and while it refuses our password, for
// there are servers that lock out who tries too often.
const (
	askWell    = 30 * time.Second
	askDown    = 5 * time.Second
	askDenied  = 30 * time.Second
	mostDenied = 10 * time.Minute
	askTimeout = 8 * time.Second
	askOwn     = 20 // times, of which one is about our own address as well
)

// question is what to ask a server next.
type question struct {
	pause  time.Duration // before
	denied bool          // it refuses our account: ask whether it still does
	own    bool          // ask whether it knows our own address
}

// probed is what became of asking.
type probed struct {
	line    *line
	word    answer // of whichever kind: the server can be reached
	fetched answer // to a SUBSCRIBE; code 0: none was sent, or it was not answered
	own     answer // to OPTIONS to our own address; likewise
}

// dial makes the lines. It connects nothing yet.
func (w *watcher) dial() error {
	for i := range w.cfg.accounts {
		a := &w.cfg.accounts[i]
		l := &line{account: a, agent: w.cfg.userAgent, timeout: w.cfg.timeout, next: make(chan question, 1), life: w.life}
		l.peers.clients, l.peers.deaf = map[sipnet.Target]*sipnet.Client{}, map[sipnet.Target]time.Time{}
		first := a.server
		if a.proxy != (sipnet.Target{}) {
			first, l.route = a.proxy, a.serverRoute()
		}
		l.config = sipnet.Config{Server: first, TLS: a.tls, Username: a.username, Password: a.password,
			OnRequest: w.inbound, OnLost: w.onLost, AnyPeer: true, Patient: true, MaxMessage: rlmi.MaxBytes, Log: w.log}
		var err error
		if l.client, err = sipnet.New(l.config); err != nil {
			return fmt.Errorf("account %s: %w", a.name, err)
		}
		w.lines = append(w.lines, l)
	}
	return nil
}

// hangUp ends the lines: nobody waits for the watcher any more.
func (w *watcher) hangUp() {
	close(w.ended)
	w.endLife()
	for _, l := range w.lines {
		l.busy.Wait()
		l.closePeers()
		l.client.Close()
	}
}

// subscribe sends a SUBSCRIBE and waits for its answer.
func (l *line) subscribe(o outgoing) answer {
	if c, t := l.direct(o, time.Now()); c != nil {
		a := l.send(c, o, min(peerTimeout, l.timeout))
		if a.code != 0 && !challenged(a.code) {
			return a
		}
		l.deafen(t, time.Now())
		o.cseq = max(o.cseq, a.cseq) + 1
	}
	return l.send(l.client, o, l.timeout)
}

// send sends a SUBSCRIBE one way.
func (l *line) send(c *sipnet.Client, o outgoing, timeout time.Duration) answer {
	req, err := l.account.request(o, l.agent, l.route)
	if err != nil {
		return answer{dialog: o.callID, cseq: o.cseq, code: sip.StatusBadRequest, reason: cut(err.Error())}
	}
	ctx, cancel := context.WithTimeout(l.life, timeout)
	defer cancel()
	res, err := c.Do(ctx, req)
	return readAnswer(req, res, err)
}

// probe asks the server for a word, again and again.
func (l *line) probe(w *watcher) {
	var q question
	for n := 0; ; n++ {
		q.own = q.own || n%askOwn == 0
		select {
		case w.probes <- l.ask(q):
		case <-l.life.Done():
			return
		}
		select {
		case q = <-l.next:
			select {
			case <-time.After(q.pause):
			case <-l.life.Done():
				return
			}
		case <-l.life.Done():
			return
		}
	}
}

// ask sends OPTIONS to the server itself: any answer says that it can be reached, and none says
// anything of our account. Where there is none, or that wants to know who we are, it sends a
// SUBSCRIBE that ends at once: there are presence servers that have nothing to say to OPTIONS.
// One that refuses us is asked by that alone.
func (l *line) ask(q question) probed {
	p, a := probed{line: l}, l.account
	if !q.denied {
		p.word = l.once(a.options(a.serverURI()))
		if q.own && p.word.code != 0 {
			p.own = l.once(a.options(a.uri))
		}
	}
	if p.word.code == 0 || challenged(p.word.code) {
		p.fetched = l.once(a.fetch(l.route))
		if p.word.code == 0 {
			p.word = p.fetched
		}
	}
	return p
}

// once sends a question.
func (l *line) once(req *sip.Request) answer {
	ctx, cancel := context.WithTimeout(l.life, min(askTimeout, l.timeout))
	defer cancel()
	res, err := l.client.Do(ctx, req)
	return readAnswer(req, res, err)
}

// challenged returns whether an answer is a challenge that we could not meet.
func challenged(code int) bool { return code == 401 || code == 407 }

// hear takes what an answer to a SUBSCRIBE tells of the account. fresh says that it began a
// dialog: there are servers that believe whoever is in one already. A 403 is about a presentity.
func (l *line) hear(now time.Time, a answer, fresh bool) {
	l.heard = l.heard || a.code != 0
	switch {
	case challenged(a.code):
		l.deny(now, a)
	case fresh && a.code/100 == 2:
		l.denied, l.pause = "", 0
	}
}

// fetched takes the same of a SUBSCRIBE to our own address. Whatever a server answers that has
// let us pass, it has let us: our address may be one that it does not serve. That is no proof
// that it lets us in to the others, and the next refusal has us wait the longer.
func (l *line) fetched(now time.Time, a answer) {
	switch {
	case challenged(a.code):
		l.deny(now, a)
	case a.code/100 >= 2 && a.code/100 != 5 && a.code != 408: // those can be of somebody in between
		l.denied = ""
	}
}

// deny notes that the account is refused, and when it may be tried again. Refusals that were
// under way meanwhile are the same one.
func (l *line) deny(now time.Time, a answer) {
	if l.denied == "" || !now.Before(l.again) {
		l.pause = min(max(2*l.pause, askDenied), mostDenied)
		l.again = now.Add(l.pause)
	}
	l.denied = strconv.Itoa(a.code) + " " + a.reason
}

// probed takes what a server said when it was asked.
func (w *watcher) probed(now time.Time, p probed) {
	l := p.line
	l.heard = l.heard || p.word.code != 0
	l.fetched(now, p.fetched)
	if code := cmp.Or(p.fetched.code, p.own.code); code != 0 {
		l.unknown = code == 404 || code == 604
	}
	w.look(now)
	q := question{pause: askWell, denied: l.denied != "", own: l.unknown}
	switch {
	case l.down || p.word.code == 0:
		q.pause = max(askDown, min(p.word.retryAfter, mostDenied), l.wait(now))
	case q.denied:
		q.pause = max(askDenied, l.wait(now))
	}
	l.next <- q
}

// wait is how long a server that refuses us is left alone still.
func (l *line) wait(now time.Time) time.Duration {
	if l.denied == "" {
		return 0
	}
	return l.again.Sub(now)
}

// look finds how the servers stand, and tells the host if that has changed. A server that is
// back may have forgotten its subscriptions: they are refreshed.
func (w *watcher) look(now time.Time) {
	for i, l := range w.lines {
		was := l.down
		l.down, l.why = reachable(l.client.Status())
		if was && !l.down {
			w.reach(now, calmly, func(s *sub) bool { return s.account == i })
		}
	}
	if c := w.connector(); c.State != 0 && c != w.told {
		w.told = c
		w.out.connect(c)
	}
}

// reachable returns whether no address of a server can be reached, and why.
func reachable(s sipnet.Status) (down bool, why string) {
	if len(s.Hops) == 0 {
		if s.DNS == nil {
			return false, ""
		}
		return true, cut(s.DNS.Error())
	}
	for _, h := range s.Hops {
		if h.Up {
			return false, ""
		}
		why = h.Address.String() + ": " + h.Why
	}
	return true, cut(why)
}

// connector is how the source stands: as the account does that stands best.
func (w *watcher) connector() plugin.Connector {
	var best plugin.Connector
	rank := map[plugin.ConnectorState]int{plugin.Up: 4, plugin.CredentialsNotFound: 3, plugin.Forbidden: 2, plugin.ConnectionError: 1}
	for _, l := range w.lines {
		if c := l.state(len(w.lines) > 1); rank[c.State] > rank[best.State] {
			best = c
		}
	}
	return best
}

// state is how an account's server stands; the zero value while nothing is known.
func (l *line) state(several bool) plugin.Connector {
	c := plugin.Connector{}
	switch {
	case l.down:
		c = plugin.Connector{State: plugin.ConnectionError, Reason: l.why}
	case l.denied != "":
		c = plugin.Connector{State: plugin.Forbidden, Reason: l.denied}
	case l.unknown:
		c = plugin.Connector{State: plugin.CredentialsNotFound, Reason: "the server does not know " + l.account.uri.Addr() + ": presence may be seen all the same"}
	case l.heard:
		c.State = plugin.Up
	}
	if several && c.Reason != "" {
		c.Reason = l.account.name + ": " + c.Reason
	}
	return c
}

func (w *watcher) onLost(local netip.AddrPort) {
	select {
	case w.lost <- local:
	case <-w.ended:
	}
}

// inbound answers a request that comes to us.
func (w *watcher) inbound(req *sip.Request) *sip.Response {
	respond := func(r reply) *sip.Response {
		res := sip.NewResponseFromRequest(req, r.code, r.reason, nil)
		switch r.code {
		case 415:
			res.AppendHeader(sip.NewHeader("Accept", r.accept))
		case 489:
			res.AppendHeader(sip.NewHeader("Allow-Events", presence.name+", "+dialogs.name))
		}
		return res
	}
	switch req.Method {
	case sip.NOTIFY:
	case sip.OPTIONS:
		res := respond(replyOK)
		res.AppendHeader(sip.NewHeader("Allow", "NOTIFY, OPTIONS"))
		return res
	default:
		res := respond(reply{code: 405, reason: "Method Not Allowed"})
		res.AppendHeader(sip.NewHeader("Allow", "NOTIFY, OPTIONS"))
		return res
	}
	if !w.knows(req.CallID().Value()) {
		return respond(replyNoDialog) // before its body is read: anybody can send one
	}
	n, r := readNotify(req)
	if r.code != 0 {
		return respond(r)
	}
	d := delivery{n, make(chan reply, 1)}
	select {
	case w.notifies <- d:
		return respond(<-d.reply)
	case <-w.ended:
		return respond(replyNoDialog)
	}
}
