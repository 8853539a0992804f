package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/pluginhost"
)

// sourceJSON is how a source stands: its plugin, and what the engine knows by it.
type sourceJSON struct {
	pluginhost.Status
	Connector     string         `json:"connector"` // up and running, connection error, ...
	Reason        string         `json:"reason,omitempty"`
	Subscriptions map[string]int `json:"subscriptions"` // by their state in words
	Waiting       int            `json:"waiting"`       // of these, for their turn
	Claims        int            `json:"claims"`
	Unheard       uint64         `json:"unheard"` // claims about those whom it does not speak for
	Stale         uint64         `json:"stale"`   // claims that came after a newer one
}

// listSources answers /api/v1/sources.
func (s *sidecar) listSources(w http.ResponseWriter, r *http.Request) {
	sources, err := s.sourceStatuses(r.Context())
	if err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, map[string]any{"sources": sources})
}

func (s *sidecar) sourceStatuses(ctx context.Context) ([]sourceJSON, error) {
	var known []busylamp.SourceStatus
	if err := s.look(ctx, func(e *busylamp.Engine) { known = e.SourceStatuses() }); err != nil {
		return nil, err
	}
	plugins := s.plugins.Statuses()
	out := make([]sourceJSON, 0, len(known))
	for i, k := range known {
		j := sourceJSON{Connector: k.Connector, Reason: k.Reason, Subscriptions: k.Words, Waiting: k.Waiting,
			Claims: k.Claims, Unheard: k.Ignored, Stale: k.Stale}
		if i < len(plugins) {
			j.Status = plugins[i]
		}
		out = append(out, j)
	}
	return out, nil
}

// restartSource answers POST /api/v1/sources/restart?source=NAME.
func (s *sidecar) restartSource(w http.ResponseWriter, r *http.Request) {
	if err := s.plugins.Restart(r.URL.Query().Get("source")); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, "its plugin is started anew: see /api/v1/sources")
}

// How long an answer to POST /api/v1/watch lasts.
const (
	watchTime     = time.Minute
	maxWatchTime  = time.Hour
	watcherByHTTP = "http"
)

// watch answers POST /api/v1/watch?presentity=URI&for=1m: the sources are asked for somebody
// for a while, so that an administrator can see what they say.
func (s *sidecar) watch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	who, err := whose(q.Get("presentity"))
	if err == nil {
		if ours, _ := newDirectory(s.cfg).Presentity(string(who)); ours != who {
			err = fmt.Errorf("presentity: %s is in none of the configured domains or numbers", quote(string(who)))
		}
	}
	long := watchTime
	if text := q.Get("for"); err == nil && text != "" {
		if long, err = time.ParseDuration(text); err != nil || long < time.Second || long > maxWatchTime {
			err = fmt.Errorf("for: %s is no duration from 1s to %v", quote(text), maxWatchTime)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.look(r.Context(), func(e *busylamp.Engine) { e.Watch(who, watcherByHTTP, long) }); err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "%s is watched for %v: see /api/v1/presentities?presentity=%s\n", who, long, url.QueryEscape(string(who)))
}

// seenJSON is what one source says of a presentity.
type seenJSON struct {
	Source      string     `json:"source"`
	Status      string     `json:"status,omitempty"` // of the subscription, in words
	Reason      string     `json:"reason,omitempty"`
	State       string     `json:"state,omitempty"`
	Activity    string     `json:"activity,omitempty"`
	Note        string     `json:"note,omitempty"`
	Device      string     `json:"device,omitempty"`
	OutOfOffice bool       `json:"out_of_office,omitempty"`
	Forwarded   string     `json:"forwarded,omitempty"` // "voice mail", or the number
	Echo        bool       `json:"echo,omitempty"`      // taken for our own word, and not heard
	Since       *time.Time `json:"since,omitempty"`
	Lapses      *time.Time `json:"lapses,omitempty"`
	Retries     *time.Time `json:"asked_again,omitempty"`
	Failures    int        `json:"failures,omitempty"` // in a row
	GaveUp      bool       `json:"gave_up,omitempty"`
}

func newSeenJSON(v busylamp.SourceView, now time.Time) seenJSON {
	at := func(d time.Duration) *time.Time {
		t := now.Add(d).Round(time.Millisecond)
		return &t
	}
	j := seenJSON{Source: v.Source, Status: v.Status, Reason: v.Reason, Failures: v.Failures, GaveUp: v.GaveUp, Echo: v.Echo,
		Activity: v.Details.Activity, Note: v.Details.Note, Device: v.Details.Device, OutOfOffice: v.Details.OutOfOffice}
	if v.State != busylamp.Unknown {
		j.State, j.Since, j.Lapses = v.State.String(), at(-v.Age), at(v.LapsesIn)
	}
	switch v.Details.Forward {
	case busylamp.ToVoiceMail:
		j.Forwarded = "voice mail"
	case busylamp.ToNumber:
		j.Forwarded = v.Details.ForwardedTo
	}
	if v.RetriesIn > 0 {
		j.Retries = at(v.RetriesIn)
	}
	return j
}

var (
	descSourceUp   = desc("source_up", "Whether the source works.", "source")
	descRestarts   = desc("source_restarts_total", "Restarts of the source's plugin.", "source")
	descSubscribed = desc("source_subscriptions", "Presentities that the source watches, or is to, by how that goes.", "source", "status")
	descAsking     = desc("source_waiting", "Presentities that wait to be asked for.", "source")
	descClaims     = desc("source_claims", "Presentities that the source says something of.", "source")
	descUnheard    = desc("source_unheard_total", "Claims about those whom the source does not speak for.", "source")
	descStale      = desc("source_stale_total", "Claims that came after a newer one.", "source")
)

// collectSources tells of the sources.
func collectSources(ch chan<- prometheus.Metric, sources []sourceJSON) {
	for _, s := range sources {
		gauge := func(d *prometheus.Desc, v int, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), append([]string{s.Name}, labels...)...)
		}
		count := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), s.Name)
		}
		gauge(descSourceUp, truth(s.Connector == busylamp.ConnectorUp.String() || s.Connector == busylamp.CredentialsNotFound.String()))
		for word, n := range s.Subscriptions {
			gauge(descSubscribed, n, word)
		}
		gauge(descAsking, s.Waiting)
		gauge(descClaims, s.Claims)
		count(descRestarts, uint64(max(s.Restarts, 0)))
		count(descUnheard, s.Unheard)
		count(descStale, s.Stale)
	}
}
