package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/busylamp/busylamp"
)

// listen opens the HTTP interface, nil if there is none.
func (s *sidecar) listen() (net.Listener, error) {
	if s.cfg.Admin == "" || s.cfg.Admin == "off" {
		return nil, nil
	}
	l, err := net.Listen("tcp", s.cfg.Admin)
	if err != nil {
		return nil, fmt.Errorf("%w (another busylamp? choose another port, or admin: off)", err)
	}
	return l, nil
}

// serveAdmin serves the HTTP interface until ctx ends.
func (s *sidecar) serveAdmin(ctx context.Context, l net.Listener) {
	server := &http.Server{Handler: s.routes(ctx), ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		// Whoever asks at the very end is cut off.
		late, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Shutdown(late)
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("the HTTP interface ended", "error", err)
	}
	<-stopped
}

// routes returns the HTTP interface, whose endless answers end with ctx.
func (s *sidecar) routes(ctx context.Context) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newMetrics(s), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /api/v1/presentities", s.presentities)
	mux.HandleFunc("GET /api/v1/proxies", s.proxies)
	mux.HandleFunc("GET /api/v1/publishers", s.listPublishers)
	mux.HandleFunc("GET /api/v1/sources", s.listSources)
	mux.HandleFunc("POST /api/v1/sources/restart", s.restartSource)
	mux.HandleFunc("POST /api/v1/watch", s.watch)
	mux.HandleFunc("POST /api/v1/resync", s.postResync)
	// What it costs, for go tool pprof; a profile takes at most the server's WriteTimeout.
	mux.HandleFunc("GET /debug/pprof/", fromHere(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", fromHere(pprof.Profile))
	mux.HandleFunc("GET /api/v1/trace", func(w http.ResponseWriter, r *http.Request) { s.trace(ctx, w, r) })
	return mux
}

// fromHere serves this host alone, whatever the interface listens on: a profile costs time.
func fromHere(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" // by a proxy on this host
		if err != nil || !from.Addr().Unmap().IsLoopback() || forwarded {
			http.Error(w, "profiles are for this host alone, over loopback (admin: 127.0.0.1:9448)", http.StatusForbidden)
			return
		}
		serve(w, r)
	}
}

// engineTime bounds how long a request waits for the engine.
const engineTime = 2 * time.Second

// look runs f on the engine.
func (s *sidecar) look(ctx context.Context, f func(*busylamp.Engine)) error {
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	return s.loop.Do(ctx, f)
}

// healthz answers 200 as long as the engine answers.
func (s *sidecar) healthz(w http.ResponseWriter, r *http.Request) {
	if err := s.look(r.Context(), func(*busylamp.Engine) {}); err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// readyz answers 200 when every proxy is connected and in step: its list of calls has
// been compared with ours since the last doubt.
func (s *sidecar) readyz(w http.ResponseWriter, r *http.Request) {
	var proxies []busylamp.ProxyStatus
	if err := s.look(r.Context(), func(e *busylamp.Engine) { proxies = e.ProxyStatuses() }); err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	ready, text := true, ""
	for _, p := range proxies {
		state := "connected and in step"
		switch {
		case !p.Connected:
			state = "not connected"
		case !p.InStep:
			state = "connected, being compared (" + p.Resync + ")"
		}
		ready = ready && p.InStep
		text += fmt.Sprintf("proxy %s: %s\n", p.Name, state)
	}
	if since, err := s.state.Failing(); err != nil { // presence goes on, and a restart mends nothing
		text += fmt.Sprintf("state: not kept for the next start since %s: %v\n", since.Format(time.RFC3339), err)
	}
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, text)
}

// maxCalls bounds the calls that are told of one presentity.
const maxCalls = 20

// maxListed bounds the presentities of one answer.
const maxListed = 10_000

// presentities answers /api/v1/presentities: all, by ?from= and ?limit=, or the one of
// ?presentity=.
func (s *sidecar) presentities(w http.ResponseWriter, r *http.Request) {
	var views []busylamp.View
	var calls []busylamp.CallView
	total := 0
	q := r.URL.Query()
	ask := func(e *busylamp.Engine) {
		total = e.Stats().People
		views = e.Views(number(q.Get("from"), 0), min(number(q.Get("limit"), 1000), maxListed))
	}
	if uri := q.Get("presentity"); uri != "" {
		p, err := whose(uri)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ask = func(e *busylamp.Engine) {
			total = e.Stats().People
			if v, ok := e.View(p); ok {
				views, calls = append(views, v), e.CallsOf(p, maxCalls)
			}
		}
	}
	if err := s.look(r.Context(), ask); err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	now := time.Now()
	out := presentityList{Total: total, Presentities: make([]presentityJSON, 0, len(views))}
	for _, v := range views {
		out.Presentities = append(out.Presentities, newPresentityJSON(v, now))
	}
	for _, c := range calls {
		p := &out.Presentities[0]
		p.InCalls = append(p.InCalls, callJSON{Proxy: c.Proxy, Dialog: c.Dialog.String(), CallID: c.CallID,
			Stage: c.Stage.String(), Since: now.Add(-c.Age).Round(time.Millisecond)})
	}
	writeJSON(w, out)
}

func (s *sidecar) proxies(w http.ResponseWriter, r *http.Request) {
	var proxies []busylamp.ProxyStatus
	if err := s.look(r.Context(), func(e *busylamp.Engine) { proxies = e.ProxyStatuses() }); err != nil {
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	type proxyJSON struct {
		Name      string `json:"name"`
		Connected bool   `json:"connected"`
		InStep    bool   `json:"in_step"`
		Calls     int    `json:"calls"`
		Resync    string `json:"last_resync_for"`
	}
	out := make([]proxyJSON, 0, len(proxies))
	for _, p := range proxies {
		out = append(out, proxyJSON(p))
	}
	writeJSON(w, map[string]any{"proxies": out})
}

// number reads a query's number, def where it is none.
func number(s string, def int) int {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return n
	}
	return def
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v)
}

type presentityList struct {
	Total        int              `json:"total"`
	Presentities []presentityJSON `json:"presentities"`
}

type presentityJSON struct {
	Presentity   string            `json:"presentity"`
	State        string            `json:"state"`
	Source       string            `json:"source,omitempty"`
	Since        time.Time         `json:"since"`
	Calls        int               `json:"calls"`
	Early        int               `json:"early_calls,omitempty"`
	InCalls      []callJSON        `json:"in_calls,omitempty"`  // of ?presentity= alone
	Telephony    string            `json:"telephony,omitempty"` // what phones do, and
	Rich         string            `json:"rich,omitempty"`      // what people chose: the halves of state, if there are sources
	Endpoint     bool              `json:"endpoint,omitempty"`
	Sources      []seenJSON        `json:"sources,omitempty"`
	Publications []publicationJSON `json:"publications"`
}

type callJSON struct {
	Proxy  string    `json:"proxy"`
	Dialog string    `json:"dialog"` // h_entry:h_id
	CallID string    `json:"call_id"`
	Stage  string    `json:"stage"`
	Since  time.Time `json:"since"`
}

type publicationJSON struct {
	Publisher   string     `json:"publisher"`
	State       string     `json:"state"` // what the server is known to have, "clear" for nothing
	Expires     *time.Time `json:"expires,omitempty"`
	Outstanding string     `json:"outstanding,omitempty"`
	Attempts    int        `json:"failed_attempts,omitempty"`
	LastCode    int        `json:"last_code,omitempty"`
	LastReason  string     `json:"last_reason,omitempty"`
}

func newPresentityJSON(v busylamp.View, now time.Time) presentityJSON {
	out := presentityJSON{Presentity: string(v.Presentity), State: v.State.String(), Source: v.Source,
		Since: now.Add(-v.Age).Round(time.Millisecond), Calls: v.Calls, Early: v.Early, Publications: []publicationJSON{}}
	out.Endpoint = v.Endpoint
	for _, seen := range v.Sources {
		out.Telephony, out.Rich = v.Telephony.String(), v.Rich.String()
		out.Sources = append(out.Sources, newSeenJSON(seen, now))
	}
	for _, p := range v.Publications {
		pj := publicationJSON{Publisher: p.Publisher, State: "clear", Outstanding: p.Outstanding,
			Attempts: p.Attempts, LastCode: p.LastCode, LastReason: p.LastReason}
		if p.Has != busylamp.Unknown {
			at := now.Add(p.ExpiresIn).Round(time.Millisecond)
			pj.State, pj.Expires = p.Has.String(), &at
		}
		out.Publications = append(out.Publications, pj)
	}
	return out
}
