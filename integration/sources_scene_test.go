package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// The plugins that ship, as the tests name their files.
const (
	sipPlugin      = "busylamp-source-sip"
	templatePlugin = "busylamp-source-template"
)

// plugins builds them once for all tests, and returns the stack whose folder has them.
var plugins = sync.OnceValues(func() (*stack.Stack, error) {
	s, err := stack.New()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return s, errors.Join(s.Plugin(ctx, "./cmd/"+sipPlugin, sipPlugin, ""), s.Plugin(ctx, "./plugin/template", templatePlugin, ""))
})

// built tells TestMain that there is something to remove.
var built atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if built.Load() {
		if s, _ := plugins(); s != nil {
			s.Remove()
		}
	}
	os.Exit(code)
}

// havePlugins puts the plugins into a stack's folder.
func havePlugins(t *testing.T, s *stack.Stack) {
	t.Helper()
	built.Store(true)
	from, err := plugins()
	check(t, err)
	there, err := from.Plugins()
	check(t, err)
	here, err := s.Plugins()
	check(t, err)
	for _, name := range []string{sipPlugin, templatePlugin} {
		check(t, os.Link(filepath.Join(there, name), filepath.Join(here, name)))
	}
}

// sipSource is a source that subscribes at a server, by UDP.
func sipSource(name, server, event string) stack.SourceConfig {
	return stack.SourceConfig{Name: name, Plugin: sipPlugin, Config: map[string]any{
		"server": "sip:" + server + ";transport=udp", "uri": "sip:watcher@" + stack.Domain, "event": event}}
}

// desk is the template source, which says of people what its file does.
type desk struct {
	name, file string
}

func newDesk(t *testing.T, s *stack.Stack, name string) *desk {
	t.Helper()
	d := &desk{name: name, file: filepath.Join(s.Dir, name+".txt")}
	d.says(t, "")
	return d
}

// source is the desk's entry of the configuration.
func (d *desk) source() stack.SourceConfig {
	return stack.SourceConfig{Name: d.name, Plugin: templatePlugin, Config: map[string]any{"file": d.file, "interval": "50ms"}}
}

// says writes the file: lines of URI, state, note.
func (d *desk) says(t *testing.T, lines string) {
	t.Helper()
	next := d.file + ".new"
	check(t, os.WriteFile(next, []byte(lines), 0o600))
	check(t, os.Rename(next, d.file))
}

// ownTemp keeps what busylamp has in TMPDIR, its plugins' sockets, in the stack's folder.
func ownTemp(s *stack.Stack) []string { return []string{"TMPDIR=" + s.Dir} }

// becomes waits until somebody has a state by a source ("" for any) and the publisher's server
// has been told the state that it is published as.
func (sc *scene) becomes(t *testing.T, who, state, source, published string) stack.Presentity {
	t.Helper()
	var p stack.Presentity
	check(t, sc.Wait(sc.ctx, 10*time.Second, fmt.Sprintf("%s %s by %s, published as %s", who, state, source, published), func() (err error) {
		if p, err = sc.sidecar.Look(sc.ctx, who); err != nil {
			return err
		}
		if p.State != state || source != "" && p.Source != source {
			return fmt.Errorf("is %s by %s: %+v", p.State, p.Source, p.Sources)
		}
		return publishedAs(p, published)
	}))
	return p
}

// publishedAs tells whether all publishers' servers have been told a state.
func publishedAs(p stack.Presentity, published string) error {
	if len(p.Publications) == 0 {
		return errors.New("no publications")
	}
	for _, pub := range p.Publications {
		if pub.State != published {
			return fmt.Errorf("publisher %s has told its server %s", pub.Publisher, pub.State)
		}
	}
	return nil
}

// sourcesStand waits until each source has as many claims as said.
func (sc *scene) sourcesStand(t *testing.T, atMost time.Duration, claims map[string]int) {
	t.Helper()
	check(t, sc.Wait(sc.ctx, atMost, "the sources' claims", func() error {
		now, err := sc.sidecar.Sources(sc.ctx)
		if err != nil {
			return err
		}
		for name, n := range claims {
			if s := now[name]; s.Claims != n || s.State != "running" {
				return fmt.Errorf("source %s: %+v, not %d claims", name, s, n)
			}
		}
		return nil
	}))
}
