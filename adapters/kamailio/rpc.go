package kamailio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxReply bounds an answer: 100,000 dialogs take about 12 MB.
const maxReply = 256 << 20

// RPC asks a Kamailio by JSON-RPC (its jsonrpcs module).
type RPC struct {
	send func(ctx context.Context, request []byte) (io.ReadCloser, error)
}

// NewRPC returns a client for an address: an http: URL, or "fifo:" and the path of
// jsonrpcs' FIFO (its fifo_name).
func NewRPC(addr string) (*RPC, error) {
	if path, ok := strings.CutPrefix(addr, "fifo:"); ok {
		if path == "" {
			return nil, fmt.Errorf("%q: want fifo:PATH", addr)
		}
		return &RPC{send: fifo(path).send}, nil
	}
	u, err := url.Parse(addr)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q: want http://HOST:PORT/RPC or fifo:PATH", addr)
	}
	h := &httpRPC{url: addr, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		// An answer of megabytes must not meet a full socket: Kamailio queues little.
		ReadBufferSize: 256 << 10,
	}}}
	return &RPC{send: h.send}, nil
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
	if err != nil {
		return nil, err
	}
	// Kamailio answers a JSON-RPC error with 4xx or 5xx and still a JSON body.
	if res.StatusCode != http.StatusOK && res.Header.Get("Content-Type") != "application/json" {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		res.Body.Close()
		return nil, fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(text))
	}
	return res.Body, nil
}

// call asks one method and decodes its result. Strings in the result are Latin-1: each
// rune is one of Kamailio's bytes, which may be no UTF-8; rawString gets them back.
func (r *RPC) call(ctx context.Context, result any, method string, params ...string) error {
	body, err := r.send(ctx, request(method, params))
	if err != nil {
		return fmt.Errorf("rpc %s: %w", method, err)
	}
	defer body.Close()
	var reply struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	text, err := io.ReadAll(latin1{io.LimitReader(body, maxReply)})
	if err != nil {
		return fmt.Errorf("rpc %s: %w", method, err)
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return fmt.Errorf("rpc %s: answer of %d bytes: %w", method, len(text), err)
	}
	if reply.Error != nil {
		return fmt.Errorf("rpc %s: Kamailio says %d %s", method, reply.Error.Code, reply.Error.Message)
	}
	if err := json.Unmarshal(reply.Result, result); err != nil {
		return fmt.Errorf("rpc %s: result: %w", method, err)
	}
	return nil
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

func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// latin1 reads bytes as Latin-1 and gives UTF-8, so that a JSON decoder keeps every byte.
type latin1 struct{ r io.Reader }

func (l latin1) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	half := p[:len(p)/2]
	n, err := l.r.Read(half)
	high := 0
	for _, c := range half[:n] {
		if c >= 0x80 {
			high++
		}
	}
	for i, j := n-1, n+high-1; high > 0 && i >= 0; i-- {
		if c := p[i]; c < 0x80 {
			p[j] = c
			j--
		} else {
			p[j], p[j-1] = c&0x3f|0x80, c>>6|0xc0
			j -= 2
		}
	}
	return n + high, err
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
