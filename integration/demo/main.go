// Command demo shows on one machine what busylamp does: a Kamailio proxy, a Kamailio
// presence server, busylamp between them, phones that call each other, and a watcher
// whose lamps tell who is on the phone. It ends with 0 only if every lamp was as promised.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

func main() { os.Exit(run()) }

// run is main with an exit code.
func run() int {
	keep := flag.Bool("keep", os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0",
		"leave everything running until Ctrl-C, and say how to look around (or KEEP=1)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "demo takes no arguments but --keep")
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	out := newScreen(os.Stdout)
	err := show(ctx, out, *keep)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		out.line("")
		out.line("Interrupted; everything has been stopped.")
		return 130
	default:
		out.line("")
		out.line("%s %v", out.bad("demo:"), err)
		return 1
	}
}

// show runs the demo. The folder with the logs is kept when something was wrong.
func show(ctx context.Context, out *screen, keep bool) (err error) {
	if err := stack.Tools("kamailio", "sipp"); err != nil {
		return err
	}
	s, err := stack.New()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Err()) // what has died may be why
		}
		err = errors.Join(err, s.Close())
		if empty := os.Remove(s.Dir) == nil; err != nil && !empty && ctx.Err() == nil {
			err = fmt.Errorf("%w\nThe logs are in %s", err, s.Dir)
			return
		}
		err = errors.Join(err, s.Remove())
	}()
	c, err := newCast(ctx, s, out)
	if err != nil {
		return err
	}
	told, err := c.tell(ctx)
	if err == nil {
		err = c.sum(ctx, told)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("not as promised: %w", err)
	case err == nil && keep:
		return c.stay(ctx)
	}
	return err
}

// users are those with a lane of their own.
var users = []string{"alice", "bob", "carol"}

// ringTime is how long a phone rings before it answers.
const ringTime = 700 * time.Millisecond

// cast is all that takes part.
type cast struct {
	*stack.Stack
	out      *screen
	proxy    *stack.Kamailio
	presence *stack.Kamailio
	sidecar  *stack.Sidecar
	phones   *stack.Phones
	watcher  *stack.Watcher
	desk     string // the file that the plugin reads
}

// newCast starts everything, one after the other, and tells of it.
func newCast(ctx context.Context, s *stack.Stack, out *screen) (c *cast, err error) {
	c = &cast{Stack: s, out: out}
	out.line("%s", out.bold("busylamp: calls become presence"))
	out.line("")
	if c.presence, err = s.Presence(ctx, stack.KamailioOptions{}); err != nil {
		return nil, err
	}
	out.part("presence server", "Kamailio, "+c.presence.Addr)
	if c.proxy, err = s.Proxy(ctx, stack.KamailioOptions{}); err != nil {
		return nil, err
	}
	out.part("proxy", "Kamailio, "+c.proxy.Addr+", with busylamp.cfg included")
	if err := c.plugin(ctx); err != nil {
		return nil, err
	}
	c.sidecar, err = s.Sidecar(ctx, stack.SidecarConfig{Evapi: c.proxy.Evapi, RPC: c.proxy.RPC,
		Server: c.presence.Addr, OnStop: "withdraw", LogLevel: "info", Watch: []string{carol},
		Sources: []stack.SourceConfig{{Name: "desk", Plugin: deskPlugin, Config: map[string]any{"file": c.desk, "interval": "100ms"}}}})
	if err != nil {
		return nil, err
	}
	if err := c.sidecar.WaitReady(ctx, 20*time.Second); err != nil {
		return nil, err
	}
	out.part("busylamp", "listens to the proxy's events, publishes to the presence server")
	out.part("plugin", "a source of presence besides calls: what carol wants, by a text file")
	if c.phones, err = s.Phones(c.proxy.Addr, stack.Domain); err != nil {
		return nil, err
	}
	c.phones.SetRing(ringTime)
	if err := c.phones.Register(ctx, users...); err != nil {
		return nil, err
	}
	out.part("phones", "of alice, bob and carol, registered at the proxy")
	if c.watcher, err = s.Watcher(c.presence.Addr, stack.Domain); err != nil {
		return nil, err
	}
	if err := c.watcher.Watch(ctx, users...); err != nil {
		return nil, err
	}
	out.part("watcher", "subscribed at the presence server; the lamps below are what it is told")
	return c, nil
}

// deskPlugin is the template's file among the plugins.
const deskPlugin = "busylamp-source-template"

// plugin builds the template, and writes what it reads: nothing yet.
func (c *cast) plugin(ctx context.Context) error {
	c.desk = filepath.Join(c.Dir, "desk.txt")
	if err := os.WriteFile(c.desk, nil, 0o600); err != nil {
		return err
	}
	return c.Plugin(ctx, "./plugin/template", deskPlugin, "")
}
