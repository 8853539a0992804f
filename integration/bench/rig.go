package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// The variants of the proxy that stand side by side.
const (
	bare    = "bare"    // dialog tracking alone
	include = "include" // with busylamp.cfg, and busylamp
	pua     = "pua"     // with pua and pua_dialoginfo
)

// rig is proxies in several variants with what belongs to them, and phones that answer. All
// stay up throughout; load goes to one of them at a time.
type rig struct {
	*stack.Stack
	phones     int // port of the phones that answer
	variants   map[string]*variant
	responders []*Responder
}

// variant is a proxy, and what publishes for it to its responder.
type variant struct {
	name    string
	proxy   *stack.Kamailio
	members []stack.Member
	server  *Responder // nil for bare
	sidecar *stack.Sidecar
}

// rigOptions say what a rig has.
type rigOptions struct {
	busylamp string   // the program
	defines  []string // more, for the proxy with busylamp.cfg
	variants []string
	tap      bool                                           // note when a 200 OK reaches the proxy; costs a filter for every packet
	sidecar  func(*stack.Stack, *stack.SidecarConfig) error // changes the configuration; nil: the default one
	others   int                                            // further presence servers that the sidecar publishes to
}

// rig returns the options of a rig with some variants.
func (e Env) rig(variants ...string) rigOptions {
	return rigOptions{busylamp: e.Busylamp, defines: e.Defines, variants: variants}
}

// newRig starts everything and waits until it is ready.
func newRig(ctx context.Context, o rigOptions) (*rig, error) {
	if err := stack.Tools("kamailio", "sipp", "kamcmd"); err != nil {
		return nil, err
	}
	s, err := stack.New()
	if err != nil {
		return nil, err
	}
	r := &rig{Stack: s, variants: make(map[string]*variant)}
	if err := r.start(ctx, o); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *rig) start(ctx context.Context, o rigOptions) (err error) {
	if err := os.Symlink(o.busylamp, filepath.Join(r.Dir, "busylamp")); err != nil { // Build finds it there
		return err
	}
	if r.phones, err = stack.FreePort(); err != nil {
		return err
	}
	if _, err = r.Sipp("ring", "-p", strconv.Itoa(r.phones), "-buff_size", sippBuffer, "-default_behaviors", sippPatient); err != nil {
		return err
	}
	for _, name := range o.variants {
		if r.variants[name], err = r.newVariant(ctx, name, o); err != nil {
			return fmt.Errorf("variant %s: %w", name, err)
		}
	}
	return nil
}

// sippBuffer is what sipp asks of the kernel for its sockets, in bytes: its default of 64 KiB
// loses packets of a burst.
const sippBuffer = "4000000"

func (r *rig) newVariant(ctx context.Context, name string, o rigOptions) (*variant, error) {
	root, err := stack.Root()
	if err != nil {
		return nil, err
	}
	v := &variant{name: name}
	// Memory for a busy proxy: with Debian's 64 MB, pua runs out of it at 500 calls/s.
	k := stack.KamailioOptions{Config: filepath.Join(root, "integration/bench/proxy.cfg"), Shared: 1024, Private: 32}
	if k.Port, err = stack.FreePort(); err != nil {
		return nil, err
	}
	if name != bare {
		if v.server, err = r.responder(ctx, k.Port, o.tap); err != nil {
			return nil, err
		}
	}
	switch name {
	case include:
		k.Defines = append([]string{"BENCH_INCLUDE"}, o.defines...)
	case pua:
		tables, err := r.EmptyTables("pua-tables", "version", "pua")
		if err != nil {
			return nil, err
		}
		k.Defines = []string{"BENCH_PUA", "BENCH_PUA_DB=" + strconv.Quote("text://"+tables),
			"BENCH_PUA_SERVER=" + strconv.Quote("sip:"+stack.Addr(v.server.Port))}
	}
	if v.proxy, err = r.Proxy(ctx, k); err != nil {
		return nil, err
	}
	if v.members, err = v.proxy.Members(); err != nil {
		return nil, err
	}
	if name == include {
		if err := r.sidecar(ctx, v, o); err != nil {
			return nil, err
		}
	}
	register, err := r.Sipp("register", "-m", "1", "-key", "callee", "phones", "-key", "domain", stack.Domain,
		"-key", "contact", stack.Addr(r.phones), v.proxy.Addr)
	if err != nil {
		return nil, err
	}
	return v, register.Succeed(10 * time.Second)
}

// responder starts a presence server.
func (r *rig) responder(ctx context.Context, proxy int, tap bool) (*Responder, error) {
	port, err := stack.FreePort()
	if err != nil {
		return nil, err
	}
	phones := 0
	if tap {
		phones = r.phones
	}
	server, err := startResponder(ctx, port, proxy, phones)
	if err == nil {
		r.responders = append(r.responders, server)
	}
	return server, err
}

// unitEnvironment returns what the unit for systemd has in the sidecar's environment: it is
// measured as it is shipped.
func unitEnvironment() (env []string, err error) {
	root, err := stack.Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "cmd/busylamp/busylamp.service"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			env = append(env, value)
		}
	}
	return env, nil
}

// sidecar starts busylamp for a variant, and waits until it is in step with the proxy.
func (r *rig) sidecar(ctx context.Context, v *variant, o rigOptions) (err error) {
	env, err := unitEnvironment()
	if err != nil {
		return err
	}
	c := stack.SidecarConfig{Evapi: v.proxy.Evapi, RPC: v.proxy.RPC, Server: stack.Addr(v.server.Port), Env: env}
	for range o.others {
		other, err := r.responder(ctx, 0, false)
		if err != nil {
			return err
		}
		c.Others = append(c.Others, stack.Addr(other.Port))
	}
	if o.sidecar != nil {
		if err := o.sidecar(r.Stack, &c); err != nil {
			return err
		}
	}
	if v.sidecar, err = r.Sidecar(ctx, c); err != nil {
		return err
	}
	return v.sidecar.WaitReady(ctx, 30*time.Second)
}

// Close ends everything and removes its files.
func (r *rig) Close() error {
	died := r.Err()
	err := r.Stack.Close()
	for _, server := range r.responders {
		err = errors.Join(err, server.Close())
	}
	if died == nil && os.Getenv("KEEP") == "" {
		err = errors.Join(err, r.Remove())
	}
	return errors.Join(died, err)
}

// spent is CPU time by whose it is.
type spent struct {
	kamailio time.Duration
	roles    map[string]time.Duration // of kamailio's processes
	busylamp time.Duration
}

// spent returns what a variant's processes have had since they were started.
func (v *variant) spent() (s spent, err error) {
	s.roles = make(map[string]time.Duration)
	for _, m := range v.members {
		t, err := stack.CPU(m.PID)
		if err != nil {
			return s, fmt.Errorf("kamailio's %s: %w", m.Role, err)
		}
		s.kamailio += t
		s.roles[role(m.Role)] += t
	}
	if v.sidecar != nil {
		s.busylamp, err = stack.CPU(v.sidecar.PID())
	}
	return s, err
}

// role groups Kamailio's names for its processes.
func role(name string) string {
	for prefix, role := range map[string]string{"udp receiver": "SIP workers", "tcp": "TCP", "EvAPI": "evapi",
		"RTIMER": "rtimer", "Async": "async", "slow timer": "timers", "timer": "timers", "secondary timer": "timers", "Dialog": "timers"} {
		if strings.HasPrefix(name, prefix) {
			return role
		}
	}
	return "others"
}

func (s spent) since(before spent) spent {
	d := spent{kamailio: s.kamailio - before.kamailio, busylamp: s.busylamp - before.busylamp, roles: maps.Clone(s.roles)}
	for role, t := range before.roles {
		d.roles[role] -= t
	}
	return d
}

// load is what became of calls at one variant.
type load struct {
	stack.SippStats
	spent
	took     time.Duration
	standing Standing // of its responder
}

// perCall returns a time by calls, in microseconds.
func (l load) perCall(t time.Duration) float64 {
	return float64(t) / float64(time.Microsecond) / float64(max(l.Created, 1))
}

// hold is how long a call lasts.
const hold = time.Second

// drain is how long after the last call's end CPU time still counts: PUBLISH requests that are
// under way by then, and the answers to them.
const drain = 500 * time.Millisecond

// call places calls at a rate for a time, and returns when they have ended. Each is between two
// users of its own; round (1 to 9) makes them others than the last round's.
func (r *rig) call(ctx context.Context, v *variant, round, rate int, atMost time.Duration) (l load, err error) {
	if v.server != nil {
		if err := v.server.Reset(); err != nil {
			return l, err
		}
	}
	port, err := stack.FreePort()
	if err != nil {
		return l, err
	}
	file := filepath.Join(r.Dir, fmt.Sprintf("sipp-%d.csv", port))
	number := int(atMost.Seconds() * float64(rate))
	before, err := v.spent()
	if err != nil {
		return l, err
	}
	start := time.Now()
	uac, err := r.Sipp("uac", "-p", strconv.Itoa(port), "-r", strconv.Itoa(rate), "-m", strconv.Itoa(number), "-l", "500000",
		"-d", strconv.FormatInt(hold.Milliseconds(), 10), "-key", "caller", fmt.Sprintf("a%d", round), "-key", "callee", fmt.Sprintf("b%d", round),
		"-key", "domain", stack.Domain, "-buff_size", sippBuffer, "-timer_resol", "1",
		"-recv_timeout", strconv.FormatInt(answerPatience.Milliseconds(), 10), "-default_behaviors", sippPatient,
		"-trace_stat", "-stf", file, "-fd", "1", v.proxy.Addr)
	if err != nil {
		return l, err
	}
	if err := r.waitSipp(ctx, uac, atMost+lostCallPatience); err != nil {
		return l, err
	}
	time.Sleep(drain)
	after, err := v.spent()
	if err != nil {
		return l, err
	}
	l.spent, l.took = after.since(before), time.Since(start)
	if l.SippStats, err = stack.ReadSippStats(file); err != nil {
		return l, err
	}
	if v.server != nil {
		l.standing, err = v.server.Report()
	}
	return l, errors.Join(err, r.Err())
}

// answerPatience is how long sipp waits for each answer; then that call has failed. A message
// that comes out of order (a proxy of several processes can pass a 180 on after the 200) is no
// failure: sippPatient has sipp go on.
const (
	answerPatience = 20 * time.Second
	sippPatient    = "-abortunexp"
)

// lostCallPatience is how long a load may take beyond its calls: two answers that never come.
const lostCallPatience = 2*answerPatience + 10*time.Second

// waitSipp waits for a sipp to end; its exit status 1 says that calls failed, which is counted.
func (r *rig) waitSipp(ctx context.Context, p *stack.Process, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		code, ended := p.Exited()
		switch {
		case ended && code <= 1:
			return nil
		case ended:
			return fmt.Errorf("%s: exit status %d; its log ends:\n%s", p.Name, code, p.Tail())
		case r.Err() != nil:
			return r.Err() // the proxy or the sidecar has died
		case ctx.Err() != nil:
			p.Kill()
			return fmt.Errorf("%s: %w", p.Name, ctx.Err())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// alternate returns the variants in the order of a round: each round begins with another one.
func alternate(variants []string, round int) []string {
	n := round % len(variants)
	return slices.Concat(variants[n:], variants[:n])
}
