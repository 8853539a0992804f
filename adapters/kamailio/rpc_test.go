package kamailio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// snippetFilter is what busylamp.cfg lets through.
var snippetFilter = regexp.MustCompile(`^\{"jsonrpc":"2\.0","id":[0-9]+,"method":"(dlg\.briefing"|dlg\.dlg_list"|dlg\.dump_file","params":\["[^"]+/dialogs-[A-Z2-7]{26}"\]\}$|htable\.get","params":\["busylamp",)`)

// answers serves an answer for every request.
func answers(t testing.TB, f func(w http.ResponseWriter, method string, params []string)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !snippetFilter.Match(body) {
			http.Error(w, "filtered", http.StatusForbidden)
			return
		}
		var q struct {
			Method string
			Params []string
		}
		if err := json.Unmarshal(latin1(body), &q); err != nil {
			t.Errorf("request %q: %v", body, err)
		}
		for i := range q.Params {
			q.Params[i] = rawString(q.Params[i])
		}
		w.Header().Set("Content-Type", "application/json")
		f(w, q.Method, q.Params)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/RPC"
}

func client(t testing.TB, addr string) *RPC {
	t.Helper()
	r, err := NewRPC(addr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNewRPC(t *testing.T) {
	for addr, ok := range map[string]bool{
		"http://127.0.0.1:5060/RPC": true, "http://[::1]:5060/RPC": true, "fifo:/run/kamailio/rpc.fifo": true,
		"": false, "fifo:": false, "127.0.0.1:5060": false, "https://127.0.0.1/RPC": false, "http:///RPC": false, "http://a b/": false,
	} {
		if r, err := NewRPC(addr); (err == nil) != ok || ok && r == nil || !ok && !strings.Contains(err.Error(), fmt.Sprintf("%q", addr)) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

// TestCallErrors: every error names the address, the method, and where there is one the fix.
func TestCallErrors(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 1<<20)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   []string
	}{
		"403": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/plain")
			http.Error(w, "busylamp: /RPC is for loopback alone"+strings.Repeat("!", 5000), http.StatusForbidden)
		}, []string{"403 Forbidden: busylamp: /RPC is for loopback alone!"}},
		"500": {func(w http.ResponseWriter) {
			w.WriteHeader(500)
			io.WriteString(w, "{\n\"jsonrpc\":\t\"2.0\",\"error\":{\"code\":500,\"message\":\"Method Not Found\"},\"id\":1}")
		}, []string{"Kamailio says 500 Method Not Found"}},
		"hang":             {func(http.ResponseWriter) { time.Sleep(time.Second) }, []string{"deadline", "-M 32", "fifo:PATH", "no HTTP transport"}},
		"hang in the body": {func(w http.ResponseWriter) { w.Write(big); w.(http.Flusher).Flush(); time.Sleep(time.Second) }, []string{"deadline"}},
		"cut off": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"result":[`)
		},
			[]string{"unexpected EOF", "tcp_conn_wq_max"}},
		"truncated": {func(w http.ResponseWriter) { io.WriteString(w, `{"result":[`) }, []string{"11 bytes", "unexpected end"}},
		"no JSON":   {func(w http.ResponseWriter) { io.WriteString(w, `<html>`) }, []string{"invalid character"}},
		"nothing":   {func(http.ResponseWriter) {}, []string{"0 bytes"}},
		"{}":        {func(w http.ResponseWriter) { io.WriteString(w, `{}`) }, []string{"without a result"}},
		"null":      {func(w http.ResponseWriter) { io.WriteString(w, `null`) }, []string{"without a result"}},
		"result null": {func(w http.ResponseWriter) { io.WriteString(w, `{"result":null}`) },
			[]string{"without a result"}},
		"an object for a list": {func(w http.ResponseWriter) { io.WriteString(w, `{"result":{}}`) }, []string{"cannot unmarshal"}},
		"two answers":          {func(w http.ResponseWriter) { io.WriteString(w, `{"result":[]}{"result":[]}`) }, []string{"invalid character"}},
		"too much": {func(w http.ResponseWriter) {
			for range maxReply/len(big) + 2 {
				if _, err := w.Write(big); err != nil {
					return
				}
			}
		}, []string{"above"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := answers(t, func(w http.ResponseWriter, _ string, _ []string) { c.answer(w) })
			ctx := within(t, 300*time.Millisecond)
			if name == "too much" {
				ctx = within(t, 60*time.Second)
			}
			var all []brief
			err := client(t, addr).call(ctx, &all, "dlg.briefing", "s")
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(c.want, addr, "dlg.briefing") {
				if !strings.Contains(err.Error(), want) || len(err.Error()) > 600 {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestCallNobody(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	addr := "http://" + l.Addr().String() + "/RPC"
	err = client(t, addr).call(t.Context(), new([]brief), "dlg.briefing", "s")
	if err == nil || strings.Count(err.Error(), addr) != 1 || !strings.Contains(err.Error(), "does Kamailio listen there on TCP") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client(t, addr).call(ctx, new([]brief), "dlg.briefing", "s"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCallEmpty(t *testing.T) {
	addr := answers(t, func(w http.ResponseWriter, _ string, _ []string) {
		io.WriteString(w, "{\n\t\"jsonrpc\":\t\"2.0\",\n\t\"result\":\t[],\n\t\"id\":\t1\n}")
	})
	all := []brief{{ID: 1}}
	if err := client(t, addr).call(t.Context(), &all, "dlg.briefing", "s"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestKeepAlive: thousands of requests go over a connection or two.
func TestKeepAlive(t *testing.T) {
	p, stop := countingServer(t)
	defer stop()
	r := client(t, "http://"+p.Addr().String()+"/RPC")
	for range 200 {
		if err := r.call(t.Context(), new([]brief), "dlg.briefing", "s"); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestLatin1(t *testing.T) {
	for _, s := range []string{"", "plain", "\xff", "a\x80b\xc3\xa9", "\x00\x7f\x80\xbf\xc0\xff", strings.Repeat("\xe9x", 5000)} {
		if got := rawString(string(latin1([]byte(s)))); got != s {
			t.Errorf("%.40q: %.40q", s, got)
		}
	}
}

func FuzzLatin1(f *testing.F) {
	f.Add([]byte("a\xff\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u := latin1(bytes.Clone(b))
		if got := rawString(string(u)); got != string(b) {
			t.Fatalf("%q: %q", b, got)
		}
		if !bytes.Equal([]byte(strings.ToValidUTF8(string(u), "?")), u) {
			t.Fatalf("%q: invalid UTF-8 %q", b, u)
		}
	})
}

// FuzzAppendJSON: every string reads back byte for byte, and neither JSON nor jsonrpcs'
// search for the end of a string sees a quote or a backslash that is not its own.
func FuzzAppendJSON(f *testing.F) {
	for _, s := range []string{"plain", `q"uo\te`, "\x00\x1f\x7f\xff", `ends with \`, "{}'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendJSON(nil, s)
		var got string
		if err := json.Unmarshal(latin1(b), &got); err != nil || rawString(got) != s {
			t.Fatalf("%q: %q, %v", s, got, err)
		}
		inside := b[1 : len(b)-1]
		if bytes.ContainsAny(inside, "\"\n\r\x00") || strings.Contains(strings.ReplaceAll(string(inside), `\u00`, ""), `\`) || len(b) > 6*len(s)+2 {
			t.Fatalf("%q", b)
		}
		if !snippetFilter.Match(request("dlg.dlg_list", []string{s})) {
			t.Fatal("the snippet's filter refuses it")
		}
	})
}

// FuzzAnswer: no answer of a proxy does harm.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"result":[{"h_entry":1,"h_id":2,"state":4,"call-id":"x"}]}`))
	f.Add([]byte(`{"error":{"code":1,"message":"x"}}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		r := &RPC{"test", true, func(context.Context, []byte) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(answer)), nil
		}}
		truth := NewTruth(r)
		truth.List(t.Context())
		truth.Details(t.Context(), wantedOnes(1), noEvents)
		truth.detail(t.Context(), asked{})
	})
}
