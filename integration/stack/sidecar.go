package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SidecarConfig is a configuration of busylamp. Zero values are left to its defaults.
type SidecarConfig struct {
	Evapi, RPC string      // of the proxy
	Dump       string      // directory where the proxy may write its dialogs (BUSYLAMP_DUMP)
	Proxies    []ProxyAddr // further proxies: proxy2, proxy3...
	Domains    []string    // {Domain}
	Server     string      // the presence server's host:port, by UDP
	Others     []string    // further presence servers, by UDP: publishers other1, other2...
	Profile    string
	Expires    time.Duration
	Sides      string
	Early      string
	Username   string // for digest authentication; its password is the same
	OnStop     string
	Env        []string // NAME=value, beside this process's environment
	Audit      time.Duration
	LogLevel   string // warn, unless it says otherwise: a line for each change is a lot
	State      string // directory; "": a new one
	Admin      int    // port; 0: any free one
	Nameserver string // IP address of the DNS server that it asks, on port 53; "": the system's
	Sources    []SourceConfig
	Watch      []string // presentities that the sources are asked for
	WatchFile  string
	Orphans    bool   // what it has started is left to itself when it ends
	More       string // further lines of the configuration file

	plugins string // the stack's folder of them
}

// ProxyAddr is where a further proxy is.
type ProxyAddr struct{ Evapi, RPC string }

// yaml writes the configuration file.
func (c SidecarConfig) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kamailio:\n  - name: proxy1\n    evapi: %s\n    rpc: %s\n", c.Evapi, c.RPC)
	if c.Dump != "" {
		fmt.Fprintf(&b, "    dump: %s\n", c.Dump)
	}
	for i, p := range c.Proxies {
		fmt.Fprintf(&b, "  - name: proxy%d\n    evapi: %s\n    rpc: %s\n", i+2, p.Evapi, p.RPC)
	}
	fmt.Fprintf(&b, "domains: [%s]\n", strings.Join(c.Domains, ", "))
	fmt.Fprintf(&b, "publishers:\n  - name: presence\n    server: sip:%s;transport=udp\n", c.Server)
	option := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	option("    profile", c.Profile)
	option("    username", c.Username)
	option("    password", c.Username)
	if c.Expires > 0 {
		option("    expires", c.Expires.String())
	}
	for i, server := range c.Others {
		fmt.Fprintf(&b, "  - name: other%d\n    server: sip:%s;transport=udp\n", i+1, server)
	}
	option("state", c.State)
	option("admin", Addr(c.Admin))
	option("sides", c.Sides)
	option("early", c.Early)
	option("on_stop", c.OnStop)
	if c.Audit > 0 {
		option("audit", c.Audit.String())
	}
	if c.Sources != nil {
		b.WriteString(sourcesYAML(c.plugins, c.Sources))
	}
	if c.Watch != nil {
		option("watch", "["+strings.Join(c.Watch, ", ")+"]")
	}
	option("watch_file", c.WatchFile)
	fmt.Fprintf(&b, "log: {level: %s}\n", c.LogLevel)
	return b.String() + c.More
}

// Sidecar is a running busylamp.
type Sidecar struct {
	*Process
	URL    string // of its HTTP interface
	Config string // path of the configuration file
	State  string // directory of its state

	stack  *Stack
	binary string
	env    []string
	dns    string // SidecarConfig.Nameserver
	config SidecarConfig
}

// Build builds busylamp and returns the binary's path.
func (s *Stack) Build(ctx context.Context) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(s.Dir, "busylamp")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/busylamp")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building busylamp: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return binary, nil
}

// Sidecar builds and starts busylamp. It does not wait: see [Sidecar.WaitReady].
func (s *Stack) Sidecar(ctx context.Context, c SidecarConfig) (*Sidecar, error) {
	binary, err := s.Build(ctx)
	if err != nil {
		return nil, err
	}
	if err := ports(&c.Admin); err != nil {
		return nil, fmt.Errorf("busylamp: %w", err)
	}
	if c.Domains == nil {
		c.Domains = []string{Domain}
	}
	if c.LogLevel == "" {
		c.LogLevel = "warn"
	}
	if c.State == "" {
		c.State = s.file("state")
	}
	if c.plugins, err = s.Plugins(); err != nil {
		return nil, err
	}
	b := &Sidecar{stack: s, binary: binary, env: c.Env, dns: c.Nameserver, URL: "http://" + Addr(c.Admin), Config: s.file("busylamp.yaml"),
		State: c.State, config: c}
	if err := os.WriteFile(b.Config, []byte(c.yaml()), 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return nil, err
	}
	return b, b.Start()
}

// Start starts the sidecar (again, after it has ended) with its configuration.
func (b *Sidecar) Start() (err error) {
	// A frozen sidecar would not heed SIGTERM, and its children, plugins, look after themselves.
	prog := program{name: "busylamp", path: b.binary, args: []string{"run", "-c", b.Config}, env: b.env, death: syscall.SIGKILL,
		orphans: b.config.Orphans}
	if b.dns != "" {
		if prog, err = b.stack.underNameserver(prog, b.dns); err != nil {
			return err
		}
	}
	b.Process, err = b.stack.start(prog)
	return err
}

// Reload writes a changed configuration, of the same ports, and sends SIGHUP.
func (b *Sidecar) Reload(change func(*SidecarConfig)) error {
	change(&b.config)
	if err := os.WriteFile(b.Config, []byte(b.config.yaml()), 0o600); err != nil {
		return err
	}
	return syscall.Kill(b.PID(), syscall.SIGHUP) // not its group's
}

// WaitReady waits until /readyz answers 200.
func (b *Sidecar) WaitReady(ctx context.Context, atMost time.Duration) error {
	return b.stack.Wait(ctx, atMost, "busylamp's "+b.URL+"/readyz", func() error {
		_, err := b.get(ctx, "/readyz")
		return err
	})
}

// Readyz returns what /readyz says, and an error unless that is with a 200.
func (b *Sidecar) Readyz(ctx context.Context) (string, error) { return b.get(ctx, "/readyz") }

// get asks the HTTP interface.
func (b *Sidecar) get(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL+path, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", res.Status, strings.TrimSpace(string(text)))
	}
	return string(text), err
}

// Resync asks for a comparison with all proxies.
func (b *Sidecar) Resync(ctx context.Context) error { return b.post(ctx, "/api/v1/resync") }

// post tells the HTTP interface to do something.
func (b *Sidecar) post(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return errors.New(res.Status)
	}
	return nil
}

// Metrics are Prometheus samples by name and labels, as they are written:
// `busylamp_publish_total{kind="initial",publisher="presence",result="accepted"}`.
type Metrics map[string]float64

// Metrics asks for /metrics.
func (b *Sidecar) Metrics(ctx context.Context) (Metrics, error) {
	text, err := b.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	m := make(Metrics)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, ok := cutLast(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			m[name] = v
		}
	}
	if _, ok := m["busylamp_calls"]; !ok {
		return nil, errors.New("/metrics has no busylamp_calls")
	}
	return m, nil
}

// Published returns how many PUBLISH requests of a kind had a result, at all publishers.
func (m Metrics) Published(kind, result string) (n int) {
	for name, v := range m {
		if strings.HasPrefix(name, fmt.Sprintf(`busylamp_publish_total{kind=%q,`, kind)) &&
			strings.HasSuffix(name, fmt.Sprintf(`,result=%q}`, result)) {
			n += int(v)
		}
	}
	return n
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Presentity is an entry of /api/v1/presentities.
type Presentity struct {
	Presentity   string
	State        string
	Source       string // whose claim won
	Calls        int
	Publications []struct{ Publisher, State string }
	Sources      []Claim // of [Sidecar.Look] alone
}

// Presentities asks for the first presentities, up to the interface's own limit.
func (b *Sidecar) Presentities(ctx context.Context) (total int, list []Presentity, err error) {
	text, err := b.get(ctx, "/api/v1/presentities?limit=10000")
	if err != nil {
		return 0, nil, err
	}
	var reply struct {
		Total        int
		Presentities []Presentity
	}
	err = json.Unmarshal([]byte(text), &reply)
	return reply.Total, reply.Presentities, err
}
