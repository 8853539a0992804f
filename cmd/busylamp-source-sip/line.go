package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

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
	next    chan time.Duration // until it is asked again
	pause   time.Duration      // between two of our asking a server that refuses us
}

// Times between two times of asking a server for a word: while it is well, which keeps a way
// through a NAT open, too; while it cannot be reached; and while it refuses our password, for
// there are servers that lock out who tries too often.
const (
	askWell     = 30 * time.Second
	askDown     = 5 * time.Second
	askDenied   = 30 * time.Second
	mostDenied  = 10 * time.Minute
	askTimeout  = 8 * time.Second
	maxAttempts = 2 // ways to ask: OPTIONS, and a SUBSCRIBE
)

// probed is what became of asking.
type probed struct {
	line *line
	answer
}

// dial makes the lines. It connects nothing yet.
func (w *watcher) dial() error {
	for i := range w.cfg.accounts {
		a := &w.cfg.accounts[i]
		l := &line{account: a, agent: w.cfg.userAgent, timeout: w.cfg.timeout, next: make(chan time.Duration, 1), life: w.life}
		l.peers.clients, l.peers.deaf = map[sipnet.Target]*sipnet.Client{}, map[sipnet.Target]time.Time{}
		first := a.server
		if a.proxy != (sipnet.Target{}) {
			first, l.route = a.proxy, a.serverRoute()
		}
		l.config = sipnet.Config{Server: first, TLS: a.tls, Username: a.username, Password: a.password,
			OnRequest: w.inbound, OnLost: w.onLost, AnyPeer: true, Patient: true, Log: w.log}
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
		if a := l.send(c, o, min(peerTimeout, l.timeout)); a.code != 0 {
			return a
		}
		l.deafen(t, time.Now())
		o.cseq++
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
	for {
		select {
		case w.probes <- probed{line: l, answer: l.ask()}:
		case <-l.life.Done():
			return
		}
		select {
		case pause := <-l.next:
			select {
			case <-time.After(pause):
			case <-l.life.Done():
				return
			}
		case <-l.life.Done():
			return
		}
	}
}

// ask sends OPTIONS, and where that is not answered a SUBSCRIBE that ends at once: there are
// presence servers that have nothing to say to the one.
func (l *line) ask() (a answer) {
	for i := range maxAttempts {
		req := l.account.options(i > 0)
		ctx, cancel := context.WithTimeout(l.life, min(askTimeout, l.timeout))
		res, err := l.client.Do(ctx, req)
		cancel()
		if a = readAnswer(req, res, err); a.code != 0 || l.life.Err() != nil {
			break
		}
	}
	return a
}

// hear takes what an answer tells of the account. A 403 is about a presentity, unless it is to
// a question about ourselves.
func (l *line) hear(a answer, ourselves bool) {
	if a.code == 0 {
		return
	}
	l.heard = true
	switch {
	case a.code == 401 || a.code == 407 || ourselves && (a.code == 403 || a.code == 603):
		l.denied = strconv.Itoa(a.code) + " " + a.reason
	case a.code != 503:
		l.denied = ""
		l.pause = 0
	}
	if ourselves {
		l.unknown = a.code == 404 || a.code == 604
	}
}

// probed takes what a server said when it was asked.
func (w *watcher) probed(p probed) {
	l := p.line
	l.hear(p.answer, true)
	w.look(time.Now())
	pause := askWell
	switch {
	case l.denied != "":
		l.pause = min(max(2*l.pause, askDenied), mostDenied)
		pause = l.pause
	case l.down || p.code == 0:
		pause = max(askDown, min(p.retryAfter, mostDenied))
	}
	l.next <- pause
}

// look finds how the servers stand, and tells the host if that has changed. A server that is
// back may have forgotten its subscriptions: they are refreshed.
func (w *watcher) look(now time.Time) {
	for i, l := range w.lines {
		was := l.down
		l.down, l.why = reachable(l.client.Status())
		if was && !l.down {
			w.reach(now, func(s *sub) bool { return s.account == i })
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
