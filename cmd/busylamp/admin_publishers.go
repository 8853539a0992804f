package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

type publisherJSON struct {
	Name          string            `json:"name"`
	Server        string            `json:"server"`
	OutboundProxy string            `json:"outbound_proxy,omitempty"`
	Transport     string            `json:"transport"` // of the first of these
	Profile       string            `json:"profile"`
	Down          bool              `json:"down"`              // silent, or said that it cannot serve: it is only probed
	Trouble       string            `json:"trouble,omitempty"` // what was last told of it
	Hops          []hopJSON         `json:"hops"`              // in the order of preference
	DNS           string            `json:"dns_error,omitempty"`
	Certificate   *time.Time        `json:"own_certificate_expires,omitempty"`
	ServersOwn    *time.Time        `json:"server_certificate_expires,omitempty"`
	Outstanding   int               `json:"outstanding"`
	Waiting       int               `json:"waiting"`
	Refused       int               `json:"refused"`
	Expires       int               `json:"expires_asked_for"` // seconds
	Answers       map[string]uint64 `json:"answers"`           // by status code, "0" for none
}

type hopJSON struct {
	Address   string    `json:"address"`
	Transport string    `json:"transport"`
	Name      string    `json:"name,omitempty"`
	Up        bool      `json:"up"`
	InUse     bool      `json:"in_use"`
	Since     time.Time `json:"since"` // up or down
	Why       string    `json:"why_down,omitempty"`
}

// listPublishers answers /api/v1/publishers.
func (s *sidecar) listPublishers(w http.ResponseWriter, r *http.Request) {
	var stats busylamp.Stats
	if err := s.look(r.Context(), func(e *busylamp.Engine) { stats = e.Stats() }); err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	out := make([]publisherJSON, 0, len(stats.Publishers))
	for i, p := range s.cfg.Publishers {
		out = append(out, newPublisherJSON(p, stats.Publishers[i], s.publishers[i].Status()))
	}
	writeJSON(w, map[string]any{"publishers": out})
}

func newPublisherJSON(p publisherConfig, st busylamp.PublisherStats, at sipnet.Status) publisherJSON {
	out := publisherJSON{Name: p.Name, Server: p.Server, OutboundProxy: p.OutboundProxy, Profile: p.Profile, Down: st.Down, Trouble: st.Trouble,
		Hops: []hopJSON{}, Certificate: expiry(at.Certificate), ServersOwn: expiry(at.ServerCertificate),
		Outstanding: st.InFlight, Waiting: st.Waiting, Refused: st.Refused, Expires: int(st.Expires / time.Second),
		Answers: make(map[string]uint64, len(st.Codes))}
	if hop, err := sipnet.ParseTarget(p.firstHop()); err == nil { // load has checked it
		out.Transport = hop.Transport
	}
	for _, h := range at.Hops {
		out.Hops = append(out.Hops, hopJSON{Address: h.Address.String(), Transport: h.Transport, Name: h.Name, Up: h.Up,
			InUse: h.InUse, Since: h.Since.Round(time.Millisecond), Why: h.Why})
	}
	if at.DNS != nil {
		out.DNS = at.DNS.Error()
	}
	for code, n := range st.Codes {
		out.Answers[strconv.Itoa(code)] = n
	}
	return out
}

// expiry returns nil for no certificate.
func expiry(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
