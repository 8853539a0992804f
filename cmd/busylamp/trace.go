package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
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

// trace shows the SIP messages about one presentity until it is interrupted, its time is
// up or the sidecar ends, and returns the exit code.
func trace(opts traceOptions, path string, environ []string, stdout, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	var err error
	if opts.admin, err = adminAddress(opts.admin, path, environ); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
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
	q := url.Values{"presentity": {string(who)}, "for": {o.life.String()}}
	at := "all publishers"
	if o.publisher != "" {
		q.Set("publisher", o.publisher)
		at = "publisher " + o.publisher
	}
	body, err := ask(ctx, http.MethodGet, o.admin, "/api/v1/trace?"+q.Encode())
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
