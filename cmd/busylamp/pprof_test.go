package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestProfilesAreLocal: a profile is taken for this host, and for nobody else that reaches the
// interface.
func TestProfilesAreLocal(t *testing.T) {
	routes := (&sidecar{cfg: smallConfig(), log: quietLog()}).routes(context.Background())
	for from, want := range map[string]int{"127.0.0.1:4000": http.StatusOK, "[::1]:4000": http.StatusOK, "[::ffff:127.0.0.1]:4000": http.StatusOK,
		"192.0.2.1:4000": http.StatusForbidden, "[2001:db8::1]:4000": http.StatusForbidden, "": http.StatusForbidden} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/goroutine", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %q: %d, want %d", from, w.Code, want)
		}
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		w = httptest.NewRecorder()
		if routes.ServeHTTP(w, r); w.Code != http.StatusForbidden {
			t.Errorf("from %q for another: %d", from, w.Code)
		}
	}
}
