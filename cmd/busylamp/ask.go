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
	"strings"
	"time"
)

// Times of the sidecar's HTTP interface, which is on this machine or at the other end of a
// tunnel.
const (
	dialTime   = 3 * time.Second
	answerTime = 5 * time.Second
)

// adminAddress returns where the sidecar's HTTP interface is: what the command line names,
// or the configuration, or the default where neither is there.
func adminAddress(named, path string, environ []string) (string, error) {
	if _, err := os.Stat(path); named == "" && path == defaultPath && errors.Is(err, fs.ErrNotExist) {
		named = defaults().Admin // the file was named to the sidecar alone
	}
	if named == "" {
		admin, err := loadAdmin(path, environ)
		if err != nil {
			return "", fmt.Errorf("%w\n%s: or name the sidecar's HTTP interface with --admin", err, path)
		}
		if admin == "" {
			return "", errors.New("admin: off: this sidecar has no HTTP interface to ask: set admin: 127.0.0.1:9448 and reload")
		}
		return admin, nil
	}
	if _, _, err := net.SplitHostPort(named); err != nil {
		return "", fmt.Errorf("--admin %s is not host:port: write it like 127.0.0.1:9448", quote(named))
	}
	return named, nil
}

// ask returns the body of a good answer.
func ask(ctx context.Context, method, admin, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin %s cannot be used: write it like 127.0.0.1:9448", quote(admin))
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: answerTime,
		DialContext: (&net.Dialer{Timeout: dialTime}).DialContext}}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no sidecar answers at %s: %w: start it with busylamp run, or name its HTTP interface with --admin",
			admin, plainCause(err))
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
		admin, res.Status, version)
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
