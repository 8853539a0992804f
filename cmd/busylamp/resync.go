package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/busylamp/busylamp"
)

// resync has the running sidecar compare its calls with the proxies' own lists now, and
// returns the exit code. proxy is one of their names, "" for all.
func resync(proxy, admin, path string, environ []string, stdout, stderr io.Writer) int {
	admin, err := adminAddress(admin, path, environ)
	if err == nil {
		var body io.ReadCloser
		if body, err = ask(context.Background(), http.MethodPost, admin, "/api/v1/resync?"+url.Values{"proxy": {proxy}}.Encode()); err == nil {
			defer body.Close()
			_, err = io.Copy(stdout, io.LimitReader(body, 64<<10))
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "busylamp: resync:", err)
		return 1
	}
	return 0
}

// postResync answers /api/v1/resync.
func (s *sidecar) postResync(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("proxy")
	var doubted []string
	err := s.look(r.Context(), func(e *busylamp.Engine) {
		for i, k := range s.cfg.Kamailio {
			if name == "" || name == k.Name {
				e.Doubt(i, "asked for by the operator")
				doubted = append(doubted, k.Name)
			}
		}
	})
	switch {
	case err != nil:
		http.Error(w, "the engine does not answer: "+err.Error(), http.StatusServiceUnavailable)
	case len(doubted) == 0:
		http.Error(w, fmt.Sprintf("proxy %s is not configured: see /api/v1/proxies", quote(name)), http.StatusNotFound)
	}
	for _, k := range doubted {
		fmt.Fprintf(w, "proxy %s is being compared: see /readyz\n", k)
	}
}
