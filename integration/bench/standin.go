package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp/integration/stack"
)

// standin stands for a proxy with busylamp.cfg and for a presence server, where only the sidecar
// between the two is of interest: the one tells of calls that nobody makes (evapi), and says that
// it has none whenever it is asked (JSON-RPC), the other accepts every PUBLISH.
type standin struct {
	events net.Listener
	rpc    *http.Server
	port   int          // the server's, UDP
	asked  atomic.Int64 // PUBLISH that were answered

	mu   sync.Mutex
	conn net.Conn // the sidecar's, once it has registered
	seq  uint32
	out  []byte
}

// standinEpoch is the life of the proxy that never was.
const standinEpoch = "1754000000.000001"

func newStandin() (*standin, error) {
	s := &standin{}
	var err error
	if s.events, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.events.Close()
		return nil, err
	}
	s.rpc = &http.Server{Addr: rpc.Addr().String(), Handler: http.HandlerFunc(answerRPC), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.rpc.Serve(rpc) }() // until Close
	go s.accept()
	go s.beat()
	return s, s.publications()
}

// Close ends the proxy; the server ends with this process.
func (s *standin) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
	return errors.Join(s.events.Close(), s.rpc.Close())
}

// answerRPC answers the questions of a sidecar: the epoch, and no dialogs.
func answerRPC(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // cut short it is another method
	result := "[]"
	if strings.Contains(string(body), `"htable.get"`) {
		result = fmt.Sprintf(`{"item":{"name":"epoch","value":%q}}`, standinEpoch)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":%s}`, result)
}

// accept takes the sidecar's connections, one after the other.
func (s *standin) accept() {
	for {
		conn, err := s.events.Accept()
		if err != nil {
			return
		}
		if _, err := bufio.NewReader(conn).ReadSlice(','); err != nil { // its registration
			conn.Close()
			continue
		}
		s.mu.Lock()
		s.conn = conn
		s.mu.Unlock()
		_ = s.say(nil) // a connection that is lost is seen by whoever waits for the calls
	}
}

// beat sends heartbeats, as the snippet does.
func (s *standin) beat() {
	for s.say(nil) == nil || !errors.Is(s.ping(), net.ErrClosed) {
		time.Sleep(time.Second)
	}
}

// ping says whether the listener is there.
func (s *standin) ping() error {
	return s.events.(*net.TCPListener).SetDeadline(time.Time{})
}

// dialog is a call by number: user a... calls user b... .
type dialog uint32

// linesOf is how many lines are sent in one frame: what fits Kamailio's buffer.
const linesOf = 16

// begin has calls begin, end has them end.
func (s *standin) begin(calls ...dialog) error {
	return s.tell(calls, func(b []byte, d dialog) []byte {
		b = append(b, ' ')
		for i, field := range [...]string{fmt.Sprintf("sip:a%08d@example.com", d), fmt.Sprintf("sip:b%08d@example.com", d),
			fmt.Sprintf("%08x-7dec-11d0-a765-00a0c91e6bf6@pbx", uint32(d))} {
			if i > 0 {
				b = append(b, ' ')
			}
			b = base64.StdEncoding.AppendEncode(b, []byte(field))
		}
		return b
	}, "c")
}

func (s *standin) end(calls ...dialog) error {
	return s.tell(calls, func(b []byte, _ dialog) []byte { return b }, "x")
}

func (s *standin) tell(calls []dialog, rest func([]byte, dialog) []byte, kind string) error {
	for len(calls) > 0 {
		n := min(len(calls), linesOf)
		if err := s.say(func(b []byte) []byte {
			for _, d := range calls[:n] {
				s.seq++
				b = fmt.Appendf(b, "\n%s %d %d:%d", kind, int32(s.seq), uint32(d)%4096, uint32(d))
				b = rest(b, d)
			}
			return b
		}); err != nil {
			return err
		}
		calls = calls[n:]
	}
	return nil
}

// say sends a frame with lines (nil: a heartbeat), if a sidecar is there.
func (s *standin) say(lines func([]byte) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return errors.New("no sidecar is connected")
	}
	b := append(s.out[:0], "busylamp/1 "+standinEpoch...)
	if lines == nil {
		b = fmt.Appendf(b, "\nh %d -", int32(s.seq))
	} else {
		b = lines(b)
	}
	s.out = b
	_ = s.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(s.conn, "%d:%s,", len(b), b); err != nil {
		return fmt.Errorf("evapi's stand-in: the sidecar takes no more events: %w", err)
	}
	return nil
}

// publications serves PUBLISH by UDP, as goal 5's responder does.
func (s *standin) publications() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	s.port = self.(*unix.SockaddrInet4).Port
	d, err := newDatagrams(fd)
	if err != nil {
		return err
	}
	go func() {
		for tag := uint32(1); ; {
			n, err := d.read()
			if err != nil {
				continue // an ICMP error of a datagram that was sent
			}
			for i := range n {
				data, _ := d.datagram(i)
				if m, ok := parseRequest(data); ok {
					d.answer(i, func(room []byte) []byte { return appendResponse(room, m, 200, tag) })
					tag++
					s.asked.Add(1)
				}
			}
			d.flush()
		}
	}()
	return nil
}

// sidecar is the program that is measured, between a standin's two halves.
type sidecar struct {
	*standin
	cmd *exec.Cmd
	url string
	dir string // of its state
}

// startSidecar starts the program with a state directory dir, and expires as the lifetime of its
// publications. It does not wait.
func startSidecar(ctx context.Context, e Env, s *standin, dir, expires string) (*sidecar, error) {
	port, err := stack.FreePort()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "busylamp.yaml")
	text := fmt.Sprintf(`kamailio: [{name: proxy1, evapi: %q, rpc: "http://%s/RPC"}]
domains: [example.com]
publishers: [{name: presence, server: "sip:127.0.0.1:%d;transport=udp", expires: %s}]
state: %q
admin: %q
audit: 24h
log: {level: error}
`, s.events.Addr(), s.rpc.Addr, s.port, expires, dir, stack.Addr(port))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, e.Busylamp, "run", "-c", config)
	cmd.Stderr = os.Stderr
	env, err := unitEnvironment()
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &sidecar{standin: s, cmd: cmd, url: "http://" + stack.Addr(port), dir: dir}, nil
}

// kill ends it without a warning, with all that it has left to write unwritten.
func (s *sidecar) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// wait waits until a page of the sidecar answers with 200.
func (s *sidecar) wait(ctx context.Context, page string, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		_, err := s.get(ctx, page)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("busylamp: %s after %v: %w", page, atMost, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *sidecar) get(ctx context.Context, page string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+page, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(text), err
}

// figure returns one of its metrics that has no labels.
func (s *sidecar) figure(ctx context.Context, name string) (float64, error) {
	text, err := s.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("busylamp has no metric %s", name)
}

// resident returns how many bytes of memory it has now (VmRSS), and had at most (VmHWM).
func (s *sidecar) resident() (now, most float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && (f[0] == "VmRSS:" || f[0] == "VmHWM:") {
			kB, _ := strconv.ParseFloat(f[1], 64) // the kernel writes digits
			if f[0] == "VmRSS:" {
				now = kB * 1024
			} else {
				most = kB * 1024
			}
		}
	}
	return now, most, err
}

// answered waits until so many PUBLISH were answered, but for so many that may be under way.
func (s *sidecar) answered(ctx context.Context, want, underWay int64) error {
	deadline := time.Now().Add(30 * time.Second)
	for last := int64(-1); s.asked.Load() < want-underWay; time.Sleep(time.Millisecond) {
		if n := s.asked.Load(); n != last {
			last, deadline = n, time.Now().Add(30*time.Second)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("busylamp: %d PUBLISH of %d, and no more within 30 s", s.asked.Load(), want)
		}
	}
	return nil
}

// quiet waits until no PUBLISH has come for a while.
func (s *sidecar) quiet(ctx context.Context) error {
	deadline := time.Now().Add(time.Minute)
	for last := int64(-1); s.asked.Load() != last; {
		if time.Now().After(deadline) {
			return fmt.Errorf("busylamp: PUBLISH without an end: %d so far", last)
		}
		last = s.asked.Load()
		time.Sleep(300 * time.Millisecond)
	}
	return ctx.Err()
}
