package stack

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Middlebox stands on the way between the sidecar and a presence server, by UDP, and does to
// their packets what a [Fault] says. It has no transactions: what it does not touch goes on
// byte for byte, repetitions too, and answers find back by their branch.
type Middlebox struct {
	Addr string

	server      netip.AddrPort
	front, back *socket // to the sidecar, to the server

	mu       sync.Mutex
	fault    Fault
	clients  map[string]netip.AddrPort // by branch
	order    []string                  // branches, the oldest first
	asked    []time.Time               // when requests came, repetitions too
	injected int
}

// Fault says what a middlebox does to packets. The zero Fault passes all of them on. A
// middlebox calls the functions one at a time, with its mutex held.
type Fault struct {
	// request returns what the middlebox answers to a request itself, and what it passes on in
	// the request's place; "" for nothing. nil passes everything.
	request func(m *message) (answer, on string)
	// answer returns what is sent on in the place of the server's answer, and how much later.
	// nil sends it as it is.
	answer func(m *message) (instead []string, later time.Duration)
}

// Bounds of what a middlebox remembers: a test of 10 minutes at a few hundred requests a
// second is well within them.
const (
	maxClients = 1 << 16
	maxAsked   = 1 << 20
)

// Middlebox starts a middlebox in front of a presence server.
func (s *Stack) Middlebox(server string) (*Middlebox, error) {
	b := &Middlebox{clients: make(map[string]netip.AddrPort)}
	var err error
	if b.server, err = netip.ParseAddrPort(server); err != nil {
		return nil, fmt.Errorf("middlebox: server %q: %w", server, err)
	}
	port := 0
	if err := ports(&port); err != nil {
		return nil, err
	}
	if b.front, err = openSocket(port); err != nil {
		return nil, err
	}
	if b.back, err = openSocket(0); err != nil {
		b.front.conn.Close()
		return nil, err
	}
	b.Addr = b.front.addr.String()
	go b.front.serve(b.fromSidecar)
	go b.back.serve(b.fromServer)
	s.onClose(b.front.close)
	s.onClose(b.back.close)
	return b, nil
}

// Set changes what is done from now on, and counts afresh.
func (b *Middlebox) Set(f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault, b.injected = f, 0
}

// Injected returns how many packets the fault has befallen since it was set.
func (b *Middlebox) Injected() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.injected
}

// Asked returns when requests came from the sidecar, repetitions too, between two moments.
func (b *Middlebox) Asked(from, to time.Time) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	var times []time.Time
	for _, at := range b.asked {
		if !at.Before(from) && at.Before(to) {
			times = append(times, at)
		}
	}
	return times
}

// Rate returns how many requests a second came between two moments: in the mean, and in the
// worst second.
func (b *Middlebox) Rate(from, to time.Time) (mean float64, worst int) {
	perSecond := make(map[int]int)
	all := b.Asked(from, to)
	for _, at := range all {
		second := int(at.Sub(from) / time.Second)
		perSecond[second]++
		worst = max(worst, perSecond[second])
	}
	return float64(len(all)) / to.Sub(from).Seconds(), worst
}

func (b *Middlebox) fromSidecar(m *message, from netip.AddrPort) {
	if m.status() != 0 {
		return // the server asks nothing, so this answers nothing
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) < maxAsked {
		b.asked = append(b.asked, m.at)
	}
	on := m.text
	if b.fault.request != nil {
		var answer string
		if answer, on = b.fault.request(m); on != m.text {
			b.injected++
		}
		if answer != "" {
			b.front.send(from, answer)
		}
	}
	if on != "" {
		b.remember(m.branch(), from)
		b.back.send(b.server, on)
	}
}

// remember notes where an answer goes.
func (b *Middlebox) remember(branch string, client netip.AddrPort) {
	if _, known := b.clients[branch]; !known {
		b.order = append(b.order, branch)
	}
	b.clients[branch] = client
	if len(b.order) > maxClients {
		delete(b.clients, b.order[0])
		b.order = b.order[1:]
	}
}

func (b *Middlebox) fromServer(m *message, _ netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	client, known := b.clients[m.branch()]
	if m.status() == 0 || !known {
		return
	}
	if b.fault.answer == nil {
		b.front.send(client, m.text)
		return
	}
	instead, later := b.fault.answer(m)
	if later > 0 || len(instead) != 1 || instead[0] != m.text {
		b.injected++
	}
	for _, text := range instead {
		if later > 0 {
			time.AfterFunc(later, func() { b.front.send(client, text) })
		} else {
			b.front.send(client, text)
		}
	}
}
