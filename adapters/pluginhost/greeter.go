package pluginhost

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/busylamp/busylamp/plugin"
)

const goos = runtime.GOOS + "/" + runtime.GOARCH

// greeter reads a plugin's standard output. Its first line, by which it greets, goes to
// go-plugin and is kept for our own errors. What follows is thrown away, for ever: a plugin
// that prints must not wait for a reader.
type greeter struct {
	pipe *os.File

	mu      sync.Mutex
	line    []byte
	greeted bool
}

// Read is part of io.Reader.
func (g *greeter) Read(p []byte) (int, error) {
	n, err := g.pipe.Read(p)
	if rest := g.take(p[:n]); rest > 0 {
		return rest, err
	}
	for err == nil {
		_, err = g.pipe.Read(p)
	}
	return 0, err
}

// take returns how many of the bytes belong to the first line.
func (g *greeter) take(p []byte) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.greeted || len(p) == 0 {
		return 0
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p, g.greeted = p[:i+1], true
	}
	if len(g.line)+len(p) > maxHandshake {
		p, g.greeted = append(p[:0], '\n'), true // go-plugin gives up on it
	}
	g.line = append(g.line, p...)
	return len(p)
}

// Close is part of io.Closer.
func (g *greeter) Close() error { return g.pipe.Close() }

// fault tells what is wrong with how the plugin greeted, nil for nothing. mtls tells whether
// a certificate is expected: go-plugin's own error for its lack says nothing about it.
func (g *greeter) fault(mtls bool) error {
	g.mu.Lock()
	line := strings.TrimSpace(string(g.line))
	g.mu.Unlock()
	if line == "" {
		return nil // it has said nothing as yet
	}
	parts := strings.Split(line, "|")
	if len(parts) < 5 || parts[0] != "1" {
		return refuse("it begins with %s where a plugin's greeting belongs (1|%d|unix|PATH|grpc): is it a source, and does it print anything before plugin.Serve?",
			shown(line), plugin.Version)
	}
	if parts[1] != strconv.Itoa(plugin.Version) {
		return refuse("it speaks version %s of the contract, and this busylamp version %d: install the plugin's build for version %d, or the busylamp for version %s",
			shown(parts[1]), plugin.Version, plugin.Version, shown(parts[1]))
	}
	if parts[4] != "grpc" {
		return refuse("it speaks %s: a source speaks grpc", shown(parts[4]))
	}
	if cert := len(parts) > 5 && len(parts[5]) > 50; mtls && !cert {
		return refuse("it gives no certificate, as a source in Python cannot: set mtls: off for it")
	} else if cert && !mtls {
		return refuse("it gives a certificate though it was not asked to: set mtls: on for it")
	}
	return nil
}

// shown quotes what a plugin said.
func shown(s string) string { return fmt.Sprintf("%q", clean(s, 80)) }

var _ io.ReadCloser = (*greeter)(nil)
