package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Lamps reads from a presence server what somebody who looks now is shown. Each look is a
// SUBSCRIBE with Expires 0, whose one NOTIFY tells the state and leaves no subscription
// behind (RFC 6665 section 4.4.3): it is the server's word of this moment, not of the last
// change, so that a NOTIFY which never came cannot hide anything.
type Lamps struct {
	agent
	domain string

	book sync.Mutex
	open map[string]chan *message // NOTIFYs that are waited for, by Call-ID
}

// fetching is how many fetches are under way at a time: 1,000 users take about a second, and
// the calls that run meanwhile do not notice.
const fetching = 16

// notifyPatience bounds the wait for a NOTIFY after the SUBSCRIBE's 200 OK. The server sends
// it again after 0.5, 1, 2... s.
const notifyPatience = 8 * time.Second

// Lamps returns a reader of the users of a domain at a presence server.
func (s *Stack) Lamps(server, domain string) (*Lamps, error) {
	l := &Lamps{domain: domain, open: make(map[string]chan *message)}
	if err := l.agent.open(server, l.notified, nil); err != nil {
		return nil, fmt.Errorf("lamps at %s: %w", server, err)
	}
	s.onClose(l.socket.close)
	return l, nil
}

// Fetch returns by how many publications each of the users is shown on the phone; those who
// are not shown so are left out. A server that joins publications of one tuple id shows them
// as one: see [Kamailio.Table] for how many there are.
func (l *Lamps) Fetch(ctx context.Context, users ...string) (map[string]int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lit := make(map[string]int)
	var mu sync.Mutex
	work := make(chan string)
	var workers sync.WaitGroup
	for range min(fetching, len(users)) {
		workers.Go(func() {
			for user := range work {
				n, err := l.fetch(ctx, user)
				if err != nil {
					cancel(err)
				}
				mu.Lock()
				lit[user] = n
				mu.Unlock()
			}
		})
	}
	for _, user := range users {
		select {
		case work <- user:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	maps.DeleteFunc(lit, func(_ string, n int) bool { return n == 0 })
	return lit, context.Cause(ctx)
}

// fetch asks for one user.
func (l *Lamps) fetch(ctx context.Context, user string) (int, error) {
	id := rand.Text()
	notify := make(chan *message, 1)
	l.book.Lock()
	l.open[id] = notify
	l.book.Unlock()
	defer func() {
		l.book.Lock()
		defer l.book.Unlock()
		delete(l.open, id)
	}()
	aor := "sip:" + user + "@" + l.domain
	m, err := l.do(ctx, request{method: "SUBSCRIBE", uri: aor, branch: newBranch(), callID: id, cseq: 1,
		from: "<sip:lamps@" + l.domain + ">;tag=" + rand.Text(), to: "<" + aor + ">",
		extra: "Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 0\r\nContact: <sip:lamps@" + l.socket.addr.String() + ">\r\n"})
	if err == nil && m.status() >= 300 {
		err = errors.New(m.start)
	}
	if err != nil {
		return 0, fmt.Errorf("looking at %s: %w", user, err)
	}
	late := time.NewTimer(notifyPatience)
	defer late.Stop()
	select {
	case m := <-notify:
		return countOnThePhone(m.body), nil
	case <-late.C:
		return 0, fmt.Errorf("looking at %s: no NOTIFY within %v of the 200 OK", user, notifyPatience)
	case <-ctx.Done():
		return 0, fmt.Errorf("looking at %s: %w", user, ctx.Err())
	}
}

// notified takes a NOTIFY. One that nobody waits for, a repetition as a rule, is answered too.
func (l *Lamps) notified(m *message, from netip.AddrPort) {
	if m.method() != "NOTIFY" {
		l.socket.send(from, m.response("405 Method Not Allowed", "lamps", "", ""))
		return
	}
	l.socket.send(from, m.response("200 OK", "lamps", "", ""))
	l.book.Lock()
	wait := l.open[m.get("call-id")]
	l.book.Unlock()
	select {
	case wait <- m: // nil is never ready
	default:
	}
}

// maxTable bounds what is read of a presence server's table: some 100 bytes each.
const maxTable = 64 << 20

// Table returns how many publications of each user the presence server has in its own table
// that have not expired. It works for one that keeps them in memory (see
// [KamailioOptions.Tables]); users of other domains are not told apart.
func (k *Kamailio) Table() (map[string]int, error) {
	rows, err := k.rows()
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	live := make(map[string]int)
	for _, r := range rows {
		if r.Expires > now {
			live[r.User]++
		}
	}
	return live, nil
}

// Publications returns how many publications the presence server has in its own table, with
// those that have expired and were not looked for yet (PRESENCE_CLEAN of presence.cfg, 5 s):
// nobody who looks is shown them, but who watches has not been told.
func (k *Kamailio) Publications() (int, error) {
	rows, err := k.rows()
	return len(rows), err
}

// row is a publication, as the RPC command presence.presentity_list tells of it.
type row struct {
	User    string
	Expires int64 // seconds since 1970
}

func (k *Kamailio) rows() (rows []row, err error) {
	const ask = `{"jsonrpc":"2.0","id":1,"method":"presence.presentity_list"}`
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.RPC, strings.NewReader(ask))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the table of %s: %w", k.role, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxTable))
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("the table of %s: %w", k.role, err)
	}
	var reply struct{ Result []row }
	if err := json.Unmarshal(bytes.ToValidUTF8(text, []byte("?")), &reply); err != nil {
		return nil, fmt.Errorf("the table of %s: %w: %.200s", k.role, err, text)
	}
	if reply.Result == nil {
		return nil, fmt.Errorf("the table of %s: %.200s", k.role, text)
	}
	return reply.Result, nil
}
