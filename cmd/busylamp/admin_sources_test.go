package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSourcesByHTTP: how sources stand, a presentity that is asked for by hand, and a restart,
// by the running sidecar and the command line.
func TestSourcesByHTTP(t *testing.T) {
	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml")}
	admin := freeAddr(t)
	s.write(admin, t.TempDir(), "plugins: {dir: "+pluginDir(t)+", allow_unpinned: true}\nsources: [{name: one, plugin: test-source}]\n")
	s.start()
	s.healthy(admin)
	runs := func(restarts string) func() bool {
		return func() bool {
			_, body := s.get(admin, "/api/v1/sources")
			return strings.Contains(body, `"state": "running"`) && strings.Contains(body, `"restarts": `+restarts+",")
		}
	}
	s.until("the source runs", runs("0"))
	post := func(path string) (int, string) {
		res, err := http.Post("http://"+admin+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text := make([]byte, 1000)
		n, _ := res.Body.Read(text)
		return res.StatusCode, string(text[:n])
	}
	for _, c := range []struct {
		query string
		code  int
		want  string
	}{
		{"presentity=sip:a@example.com&for=5m", 200, "sip:a@example.com is watched for 5m0s"},
		{"presentity=alice", 400, "presentity: "},
		{"presentity=sip:a@elsewhere.org", 400, "is in none of the configured domains or numbers"},
		{"presentity=sip:a@example.com&for=2h", 400, `for: "2h" is no duration from 1s to 1h0m0s`},
		{"presentity=sip:a@example.com&for=soon", 400, `for: "soon" is no duration`},
	} {
		if code, text := post("/api/v1/watch?" + c.query); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", c.query, code, text)
		}
	}
	if _, body := s.get(admin, "/api/v1/presentities?presentity=sip:a@example.com"); !strings.Contains(body, `"status": "requesting"`) {
		t.Errorf("who is asked for by hand: %s", body)
	}
	if _, body := s.get(admin, "/metrics"); !strings.Contains(body, `busylamp_source_subscriptions{source="one",status="requesting"} 1`) {
		t.Error("no metric of the subscription")
	}
	code, stdout, stderr := command(t, nil, "plugin", "restart", "one", "-c", s.path)
	if code != 0 || !strings.Contains(stdout, "one") {
		t.Errorf("restart: %d %s%s", code, stdout, stderr)
	}
	s.until("the source runs again", runs("1"))
	if code, _, stderr := command(t, nil, "plugin", "restart", "two", "-c", s.path); code != 1 || !strings.Contains(stderr, "two") {
		t.Errorf("restart of an unknown source: %d %s", code, stderr)
	}
	s.signal(syscall.SIGTERM)
	s.ends(0)
}
