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
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// maxReply bounds an answer: 100,000 dialogs take about 12 MB.
const maxReply = 64 << 20

// RPC asks a Kamailio by JSON-RPC (its jsonrpcs module).
type RPC struct {
	addr string
	here bool // on this host
	send func(ctx context.Context, request []byte) (io.ReadCloser, error)
}

// NewRPC returns a client for an address: an http: URL, or "fifo:" and the path of
// jsonrpcs' FIFO (its fifo_name).
func NewRPC(addr string) (*RPC, error) {
	if path, ok := strings.CutPrefix(addr, "fifo:"); ok {
		if path == "" {
			return nil, fmt.Errorf("%q: want fifo:PATH", addr)
		}
		return &RPC{addr, true, fifo(path).send}, nil
	}
	u, err := url.Parse(addr)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q: want http://HOST:PORT/RPC or fifo:PATH", addr)
	}
	h := &httpRPC{url: addr, client: &http.Client{Transport: &http.Transport{
		// Kamailio closes an idle connection after two minutes.
		MaxConnsPerHost: detailWorkers, MaxIdleConnsPerHost: detailWorkers, IdleConnTimeout: 30 * time.Second,
		// An answer of megabytes must not meet a full socket: Kamailio queues little.
		ReadBufferSize: 256 << 10,
	}}}
	ip, err := netip.ParseAddr(u.Hostname())
	return &RPC{addr, u.Hostname() == "localhost" || err == nil && ip.IsLoopback(), h.send}, nil
}

type httpRPC struct {
	url    string
	client *http.Client
}

func (h *httpRPC) send(ctx context.Context, request []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := h.client.Do(req)
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err // the address is named already
	}
	if err != nil {
		return nil, err
	}
	// Kamailio answers a JSON-RPC error with 4xx or 5xx and still a JSON body.
	if res.StatusCode != http.StatusOK && !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		res.Body.Close()
		return nil, fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(text))
	}
	return res.Body, nil
}

// call asks one method and decodes its result. Strings in the result are Latin-1: each
// rune is one of Kamailio's bytes, which may be no UTF-8; rawString gets them back.
func (r *RPC) call(ctx context.Context, result any, method string, params ...string) error {
	if err := r.ask(ctx, result, request(method, params)); err != nil {
		return fmt.Errorf("rpc %s: %s: %w%s", r.addr, method, err, advice(err))
	}
	return nil
}

func (r *RPC) ask(ctx context.Context, result any, request []byte) error {
	body, err := r.send(ctx, request)
	if err != nil {
		return err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxReply+1))
	if err != nil {
		return err
	}
	if len(text) > maxReply {
		return fmt.Errorf("an answer above %d bytes", maxReply)
	}
	var reply struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal(latin1(text), &reply); err != nil {
		return fmt.Errorf("answer of %d bytes: %w", len(text), err)
	}
	if reply.Error != nil {
		return fmt.Errorf("Kamailio says %d %s", reply.Error.Code, reply.Error.Message)
	}
	if len(reply.Result) == 0 || string(reply.Result) == "null" {
		return errors.New("answer without a result")
	}
	return json.Unmarshal(reply.Result, result)
}

// advice says what may help against an error.
func advice(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return " (Kamailio answers nothing if its jsonrpcs has no HTTP transport, or if the answer does not fit" +
			" its private memory: start it with -M 32, or use rpc: fifo:PATH)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return " (if this goes on, raise Kamailio's tcp_conn_wq_max, or use rpc: fifo:PATH)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return " (does Kamailio listen there on TCP?)"
	}
	return ""
}

// request builds a request by hand: the snippet's filter wants exactly this beginning, and
// parameters are raw bytes, which encoding/json would alter.
func request(method string, params []string) []byte {
	b := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"%s","params":[`, method)
	for i, p := range params {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, p)
	}
	return append(b, "]}"...)
}

// appendJSON escapes quotes and backslashes by number: jsonrpcs' FIFO looks for the end of
// a string by hand, and would take the last quote of "\\\\" for an escaped one.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			b = fmt.Appendf(b, `\u%04x`, c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// latin1 reads bytes as Latin-1 and gives UTF-8, so that a JSON decoder keeps every byte.
func latin1(text []byte) []byte {
	high := 0
	for _, c := range text {
		high += int(c >> 7)
	}
	if high == 0 {
		return text
	}
	b := make([]byte, 0, len(text)+high)
	for _, c := range text {
		b = utf8.AppendRune(b, rune(c))
	}
	return b
}

// rawString undoes latin1 for a decoded string.
func rawString(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			b := make([]byte, 0, len(s))
			for _, r := range s {
				b = append(b, byte(r))
			}
			return string(b)
		}
	}
	return s
}
