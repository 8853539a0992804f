package main

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet"
)

// peers are the ways to notifiers that are not where we subscribed: a proxy that does not stay
// in the path (no Record-Route) has answered with a Contact elsewhere, and requests within the
// dialog go straight there (RFC 3261 section 12.2.1.1). Many a Contact cannot be reached from
// here, though, and then the server itself is tried.
type peers struct {
	mu      sync.Mutex
	clients map[sipnet.Target]*sipnet.Client
	deaf    map[sipnet.Target]time.Time // until when they are not tried
}

// Limits of peers.
const (
	maxPeers    = 32
	peerTimeout = 5 * time.Second  // for an answer, where there is another way
	deafFor     = 10 * time.Minute // one that gave none, or a challenge alone, is left alone
)

// direct returns the way to where a request within a dialog is to go by its route set and its
// target; nil if that is the server, or is not to be reached but by it.
func (l *line) direct(o outgoing, now time.Time) (*sipnet.Client, sipnet.Target) {
	if o.remote == "" || l.route != nil || l.account.server.Transport == "tls" {
		return nil, sipnet.Target{}
	}
	next := o.target
	if len(o.routes) > 0 {
		next = o.routes[0]
	}
	t, ok := targetOf(next)
	if !ok || l.isServer(t) {
		return nil, t
	}
	l.peers.mu.Lock()
	defer l.peers.mu.Unlock()
	if now.Before(l.peers.deaf[t]) {
		return nil, t
	}
	c := l.peers.clients[t]
	if c == nil && len(l.peers.clients) < maxPeers {
		cfg := l.config
		cfg.Server, cfg.Realms = t, l.client.Challenged // whoever a NOTIFY names is told nothing else
		var err error
		if c, err = sipnet.New(cfg); err != nil {
			return nil, t
		}
		l.peers.clients[t] = c
	}
	return c, t
}

// targetOf returns where a URI of a route or a Contact leads to.
func targetOf(s string) (sipnet.Target, bool) {
	if i, j := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>'); i >= 0 && j > i {
		s = s[i+1 : j]
	}
	var uri sip.Uri
	if err := sip.ParseUri(s, &uri); err != nil || uri.Host == "" || uri.Scheme != "sip" {
		return sipnet.Target{}, false
	}
	t := sipnet.Target{Host: strings.Trim(uri.Host, "[]"), Port: uri.Port, Transport: "udp"}
	if transport, ok := uri.UriParams.Get("transport"); ok {
		t.Transport = strings.ToLower(transport)
	}
	if maddr, ok := uri.UriParams.Get("maddr"); ok {
		t.Host = maddr
	}
	checked, err := sipnet.ParseTarget(t.String())
	return checked, err == nil && t.Transport != "tls"
}

// isServer returns whether a target is the server that we know, by its name or an address.
func (l *line) isServer(t sipnet.Target) bool {
	server := l.account.server
	if strings.EqualFold(t.Host, server.Host) && (t.Port == server.Port || t.Port == 0) {
		return true
	}
	port := t.Port
	if port == 0 {
		port = 5060
	}
	ip, err := netip.ParseAddr(t.Host)
	for _, h := range l.client.Status().Hops {
		if err == nil && h.Address == netip.AddrPortFrom(ip.Unmap(), uint16(port)) {
			return true
		}
	}
	return false
}

// deafen leaves a peer alone that was of no use.
func (l *line) deafen(t sipnet.Target, now time.Time) {
	l.peers.mu.Lock()
	defer l.peers.mu.Unlock()
	if len(l.peers.deaf) > 4*maxPeers {
		clear(l.peers.deaf)
	}
	l.peers.deaf[t] = now.Add(deafFor)
}

func (l *line) closePeers() {
	l.peers.mu.Lock()
	defer l.peers.mu.Unlock()
	for _, c := range l.peers.clients {
		c.Close()
	}
}
