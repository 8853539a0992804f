package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// traceOptions are those of busylamp trace.
type traceOptions struct {
	presentity string
	publisher  string // "" for all
	admin      string // host:port of the sidecar's HTTP interface, "" for the configured one
	life       time.Duration
}

// Times of the sidecar's HTTP interface, which is on this machine or at the other end of a
// tunnel.
const (
	dialTime   = 3 * time.Second
	answerTime = 5 * time.Second
)

// trace shows the SIP messages about one presentity until it is interrupted, its time is
// up or the sidecar ends, and returns the exit code.
func trace(opts traceOptions, path string, environ []string, stdout, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if _, err := os.Stat(path); opts.admin == "" && path == defaultPath && errors.Is(err, fs.ErrNotExist) {
		opts.admin = defaults().Admin // the file was named to the sidecar alone
	}
	if opts.admin == "" {
		var err error
		if opts.admin, err = loadAdmin(path, environ); err != nil {
			fmt.Fprintf(stderr, "%v\n%s: or name the sidecar's HTTP interface with --admin\n", err, path)
			return 1
		}
	}
	if err := opts.run(ctx, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "busylamp: trace:", err)
		return 1
	}
	return 0
}

func (o traceOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	who, err := whose(o.presentity)
	if err != nil {
		return err
	}
	if o.admin == "" {
		return errors.New("admin: off: this sidecar has no HTTP interface to ask: set admin: 127.0.0.1:9448 and reload")
	}
	if _, _, err := net.SplitHostPort(o.admin); err != nil {
		return fmt.Errorf("--admin %s is not host:port: write it like 127.0.0.1:9448", quote(o.admin))
	}
	q := url.Values{"presentity": {string(who)}, "for": {o.life.String()}}
	at := "all publishers"
	if o.publisher != "" {
		q.Set("publisher", o.publisher)
		at = "publisher " + o.publisher
	}
	body, err := o.ask(ctx, "/api/v1/trace?"+q.Encode())
	if err == nil {
		defer body.Close()
		fmt.Fprintf(stderr, "waiting for SIP about %s at %s for %v; Ctrl-C ends\n", who, at, o.life)
		if _, err = io.Copy(stdout, body); err != nil {
			err = fmt.Errorf("the connection to the sidecar at %s is lost: %w: has it been killed?", o.admin, err)
		}
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "… ended: interrupted")
		return nil
	}
	return err // nil: it has said why it ends
}

// ask returns the body of a good answer.
func (o traceOptions) ask(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin %s cannot be used: write it like 127.0.0.1:9448", quote(o.admin))
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: answerTime,
		DialContext: (&net.Dialer{Timeout: dialTime}).DialContext}}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no sidecar answers at %s: %w: start it with busylamp run, or name its HTTP interface with --admin",
			o.admin, plainCause(err))
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if said := strings.TrimSpace(printable(string(text))); !strings.Contains(said, "page not found") {
		return nil, errors.New(said)
	}
	return nil, fmt.Errorf("%s answers %s: is that a sidecar of this version (%s)? name its HTTP interface with --admin",
		o.admin, res.Status, version)
}

// plainCause strips what the error's own text says.
func plainCause(err error) error {
	var op *net.OpError
	var ue *url.Error
	switch {
	case errors.As(err, &op):
		return op.Err
	case errors.As(err, &ue):
		return ue.Err
	}
	return err
}
