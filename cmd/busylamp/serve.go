package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/kamailio"
	"github.com/busylamp/busylamp/adapters/pluginhost"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sippublish"
)

// withdrawTime is how long on_stop: withdraw may take (the contract's 5 s, with a margin).
const withdrawTime = 4500 * time.Millisecond

// serve runs the sidecar until it is told to stop, and returns the exit code.
func serve(path string, environ []string, stderr io.Writer) int {
	tuned.Do(func() { tuneMemory(environ) })
	cfg, err := load(path, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	out := newLogWriter(stderr)
	defer out.close()
	log := newLogger(cfg.Log, out)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	svc := service{path: path, environ: environ, hangup: hangup, manager: newNotifier(environ, log), plugins: pluginhost.New()}
	defer svc.manager.close()
	defer svc.plugins.Close()

	state, err := openState(cfg.State, log)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", path, err)
		return 1
	}
	stop, halt := context.WithCancelCause(stop)
	defer halt(nil)
	go func() {
		select {
		case <-state.fenced:
			halt(errFenced)
		case <-stop.Done():
		}
	}()
	left := legacy{records: state.take(cfg.ids(), log)}
	log.Info("busylamp starts", "version", version, "config", path, "proxies", len(cfg.Kamailio),
		"publishers", len(cfg.Publishers), "domains", len(cfg.Domains), "sources", len(cfg.Sources), "taken over", len(left.records))
	var before *config // to go back to, if the reloaded configuration cannot run
	for {
		var next *config
		next, left, err = serveOnce(stop, svc, cfg, log, state, left)
		if err != nil && before != nil {
			log.Error("cannot run with the reloaded configuration; going back to the old one", "error", err)
			cfg, before = *before, nil
			continue
		}
		if next == nil {
			err = errors.Join(err, leave(state, cfg, left.records, log))
			if cause := context.Cause(stop); errors.Is(cause, errFenced) {
				err = errors.Join(cause, err)
			}
			if err != nil {
				fmt.Fprintf(stderr, "%s: %v\n", path, err)
				return 1
			}
			return 0
		}
		old := cfg
		cfg, before = *next, &old
		if cfg.State != old.State {
			log.Warn("state: a new directory is used after a restart", "directory", cfg.State)
			cfg.State = old.State
		}
		log = newLogger(cfg.Log, out)
		log.Info("configuration reloaded", "config", path, "taken over", len(left.records))
	}
}

// service is what surrounds the sidecar, under whatever configuration.
type service struct {
	path    string // of the configuration file
	environ []string
	hangup  <-chan os.Signal
	manager *notifier
	plugins *pluginhost.Host
}

// legacy is what one sidecar leaves to the next.
type legacy struct {
	records []busylamp.Record
	sources busylamp.Handover
	kept    map[string]bool // sources that have gone on
}

// errFenced ends the sidecar without a withdrawal: what is published is another's now.
var errFenced = fmt.Errorf("state: %w; it publishes now, and this one ends (%w)", busylamp.ErrFenced, busylamp.ErrHandOver)

// leave ends the sidecar for good, and keeps what is still published for the next start.
func leave(state *state, cfg config, records []busylamp.Record, log *slog.Logger) error {
	var unsure []busylamp.StoreOp // what was not answered before the end, or could not be sent
	for _, r := range records {
		if r.Unsure || r.Clear {
			unsure = append(unsure, busylamp.StoreOp{Record: r})
		}
	}
	state.keep(cfg.ids(), unsure)
	err := state.close()
	if err != nil {
		log.Error("not all of what is published could be kept for the next start; it lapses by itself", "error", err)
		err = fmt.Errorf("state: %w", err)
	}
	if n := len(records); n > 0 && cfg.OnStop == "withdraw" {
		log.Warn("not everything could be withdrawn; the next start will try again", "published", n)
	}
	log.Info("busylamp stopped", "published", len(records))
	return err
}

// sidecar is everything that runs under one configuration.
type sidecar struct {
	cfg        config
	log        *slog.Logger
	loop       *busylamp.Loop
	state      *state
	events     []*kamailio.Events
	publishers []*sippublish.Publisher
	tracers    []tracer      // the publishers again, as tests replace them
	traces     chan struct{} // holds one for each trace under way
	manager    *notifier
	plugins    *pluginhost.Host
	quotas     quotas // of tell
}

// serveOnce runs under one configuration, beginning with what an earlier sidecar left. It
// returns the next configuration after a SIGHUP that could be read, nil when the sidecar
// is to end, and what it leaves itself.
func serveOnce(stop context.Context, svc service, cfg config, log *slog.Logger, state *state,
	from legacy) (*config, legacy, error) {
	s, err := newSidecar(cfg, log, state, svc.plugins, from)
	if err != nil {
		return nil, from, err
	}
	s.manager = svc.manager
	defer s.close()
	plugins, err := hostConfigs(cfg, log)
	if err != nil {
		return nil, from, err
	}
	admin, err := s.listen()
	if err != nil {
		return nil, from, fmt.Errorf("admin: %w", err)
	}
	if err := s.plugins.Apply(plugins, s.loop); err != nil {
		if admin != nil {
			admin.Close()
		}
		return nil, from, fmt.Errorf("plugins: %w", err)
	}
	ctx, cancel := context.WithCancelCause(stop)
	defer cancel(nil)
	reloaded := make(chan *config, 1)
	go func() {
		if next := awaitReload(ctx, svc, log); next != nil {
			s.detach()
			reloaded <- next
			cancel(busylamp.ErrHandOver)
		}
	}()
	var tuner sync.WaitGroup
	tuner.Go(func() { tuneProcessors(ctx, svc.environ) })
	s.run(ctx, admin)
	tuner.Wait()
	svc.manager.alive()
	records, err := s.loop.Records(context.Background())
	if stop.Err() != nil {
		return nil, legacy{records: records}, err
	}
	next := <-reloaded
	left := legacy{records: s.withdrawFromOthers(records, next.ids()), sources: s.loop.Handover(), kept: make(map[string]bool)}
	for i, source := range cfg.Sources {
		left.kept[source.Name] = s.plugins.Kept(i)
	}
	return next, left, nil
}

// detach has the sources hold what they bring until there is another engine, once this one
// has taken what they brought.
func (s *sidecar) detach() {
	s.plugins.Detach()
	if err := s.look(context.Background(), func(*busylamp.Engine) {}); err != nil {
		s.log.Warn("the engine does not answer; what sources have brought last may be lost until they say it again", "error", err)
	}
}

// awaitReload returns the configuration that the first SIGHUP with a good one brings, nil
// when ctx ends.
func awaitReload(ctx context.Context, svc service, log *slog.Logger) *config {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-svc.hangup:
		}
		svc.manager.reloading()
		next, err := load(svc.path, svc.environ)
		if err == nil {
			return &next
		}
		log.Error("configuration not reloaded; the old one stays", "error", err)
		svc.manager.ready("the configuration could not be reloaded; the old one stays")
	}
}

// newSidecar wires adapters and engine together.
func newSidecar(cfg config, log *slog.Logger, state *state, plugins *pluginhost.Host, from legacy) (*sidecar, error) {
	s := &sidecar{cfg: cfg, log: log, state: state, plugins: plugins, traces: make(chan struct{}, maxTraces)}
	directory := newDirectory(cfg)
	engine := busylamp.Config{
		Directory: directory,
		Early:     cfg.Early == "publish",
		Audit:     cfg.Audit,
		Hold:      cfg.Hold,
		Seed:      rand.Uint64(),
		Durable:   true,
		Sides:     map[string]busylamp.Sides{"caller": busylamp.SideCaller, "callee": busylamp.SideCallee}[cfg.Sides],
	}
	if err := addSources(&engine, cfg, directory); err != nil {
		return nil, err
	}
	ids := cfg.ids()
	loop := busylamp.LoopConfig{Observe: s.tell, Keep: func(ops []busylamp.StoreOp) { state.keep(ids, ops) }}
	if cfg.OnStop == "withdraw" {
		loop.Withdraw = withdrawTime
	}
	for _, k := range cfg.Kamailio {
		rpc, err := kamailio.NewRPC(k.RPC)
		if err != nil {
			return nil, err
		}
		engine.Proxies = append(engine.Proxies, k.Name)
		truth := kamailio.NewTruth(rpc)
		if k.Dump != "" {
			truth = kamailio.NewTruthByFile(rpc, k.Dump, func(err error) {
				if err != nil {
					log.Warn("the proxy cannot write its dialogs; it is asked over rpc instead", "proxy", k.Name, "dump", k.Dump, "error", err)
					return
				}
				log.Info("the proxy writes its dialogs again", "proxy", k.Name, "dump", k.Dump)
			})
		}
		loop.Proxies = append(loop.Proxies, truth)
	}
	for _, p := range cfg.Publishers {
		pub, core, err := newPublisher(p, cfg.Domains[0], log)
		if err != nil {
			s.close()
			return nil, err
		}
		s.publishers, s.tracers = append(s.publishers, pub), append(s.tracers, pub)
		engine.Publishers = append(engine.Publishers, core)
		loop.Publishers = append(loop.Publishers, pub)
	}
	for i := range cfg.Sources {
		loop.Sources = append(loop.Sources, sourceAt{plugins, i})
	}
	e, err := busylamp.New(engine)
	if err != nil {
		s.close()
		return nil, err
	}
	e.TakeOver(from.records)
	for _, uri := range cfg.Watch {
		e.Watch(busylamp.Presentity(uri), "configuration", 0)
	}
	e.Inherit(from.sources, from.kept)
	s.loop = busylamp.NewLoop(e, loop)
	state.loop.Store(s.loop)
	for i, k := range cfg.Kamailio {
		s.events = append(s.events, kamailio.NewEvents(kamailio.Config{
			Index: i, Name: k.Name, Evapi: k.Evapi, Early: engine.Early, Log: log}, s.loop))
	}
	return s, nil
}

// newPublisher returns what publishes to one server, and what the engine is to know of it.
// Numbers are users of the domain there.
func newPublisher(p publisherConfig, domain string, log *slog.Logger) (*sippublish.Publisher, busylamp.PublisherConfig, error) {
	core := busylamp.PublisherConfig{Name: p.Name, Expires: p.Expires, InitialExpires: p.InitialExpires,
		Max: p.MaxOutstanding, Rate: float64(p.Rate), NoSentinel: !p.hasSentinel(),
		Part:   map[string]busylamp.Part{"telephony": busylamp.TelephonyOnly, "rich": busylamp.RichOnly}[p.Part],
		SeenAs: sippublish.Profile(p.Profile).SeenAs}
	fail := func(err error) (*sippublish.Publisher, busylamp.PublisherConfig, error) {
		return nil, core, fmt.Errorf("publisher %s: %w", p.Name, err)
	}
	f, err := newFilter(p.Filter)
	if err != nil {
		return fail(err)
	}
	if f != nil {
		core.Wants = f.wants
	}
	server, err := sipnet.ParseTarget(p.Server)
	if err != nil {
		return fail(err)
	}
	var proxy sipnet.Target
	if p.OutboundProxy != "" {
		if proxy, err = sipnet.ParseTarget(p.OutboundProxy); err != nil {
			return fail(err)
		}
	}
	log = log.With("publisher", p.Name)
	if p.TLS.Verify == "off" {
		log.Warn("the server's certificate is not verified: anybody in between can pass for it (tls: verify: off)")
	}
	pub, err := sippublish.New(sippublish.Config{Name: p.Name, Server: server, Proxy: proxy,
		TLS: sipnet.TLS{CAFile: p.TLS.CAFile, CertFile: p.TLS.CertFile, KeyFile: p.TLS.KeyFile,
			ServerName: p.TLS.ServerName, SkipVerify: p.TLS.Verify == "off"},
		Username: p.Username, Password: string(p.Password), Profile: sippublish.Profile(p.Profile),
		TupleID: p.TupleID, NumbersAt: domain, RefreshBody: p.repeatsBody(), Timeout: p.Timeout, UserAgent: p.userAgent(), Log: log})
	return pub, core, err
}

// run runs everything until ctx ends.
func (s *sidecar) run(ctx context.Context, admin net.Listener) {
	var workers sync.WaitGroup
	for _, k := range s.events {
		workers.Go(func() { k.Run(ctx) })
	}
	if admin != nil {
		workers.Go(func() { s.serveAdmin(ctx, admin) })
	}
	for i, p := range s.publishers {
		workers.Go(func() { s.connect(ctx, s.cfg.Publishers[i].Name, p) })
	}
	workers.Go(func() { s.manager.watch(ctx, s.status) })
	s.loop.Run(ctx)
	workers.Wait()
}

// connectTime bounds connecting to a presence server beforehand.
const connectTime = 10 * time.Second

// connect lets a wrong name, port or certificate show at the start and not with the first
// call.
func (s *sidecar) connect(ctx context.Context, name string, p *sippublish.Publisher) {
	limited, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if err := p.Connect(limited); err != nil && ctx.Err() == nil {
		s.log.Warn("the presence server cannot be reached; it is tried again with the first change", "publisher", name, "error", err)
	}
}

func (s *sidecar) close() {
	for _, p := range s.publishers {
		p.Close()
	}
}

// tell logs what people should read: above all the changes of a presence. Those that a source
// brings about have a quota; those by calls never.
func (s *sidecar) tell(w busylamp.Work) {
	now := time.Now()
	s.quotas.tell(now, func(source string, untold int) {
		s.log.Info("changes not told: there were too many", "source", source, "changes", untold)
	})
	for _, c := range w.Statuses {
		if c.Presentity == "" {
			s.log.Info("source", "source", c.Source, "old", c.Old, "new", c.New, "why", c.Reason)
		} else if s.quotas.lets(c.Source, now) {
			s.log.Info("subscription", "source", c.Source, "presentity", c.Presentity, "old", c.Old, "new", c.New, "why", c.Reason)
		}
	}
	if !s.log.Enabled(context.Background(), slog.LevelInfo) {
		w.Changes = nil // what they were is not even put into words
	}
	for _, c := range w.Changes {
		why := c.Why()
		source, limited := strings.CutPrefix(why, "source ")
		if why == "claim lapsed" && c.New.Source != callsSource { // a source says for how long its claims hold
			source = c.Old.Source
			limited = slices.ContainsFunc(s.cfg.Sources, func(one sourceConfig) bool { return one.Name == source })
		}
		if !limited || s.quotas.lets(source, now) {
			s.log.Info("presence", "presentity", c.Presentity, "old", c.Old.State, "new", c.New.State, "why", why)
		}
	}
	for _, n := range w.Notes {
		level := slog.LevelInfo
		if n.Warning {
			level = slog.LevelWarn
		}
		s.log.Log(context.Background(), level, n.What, n.Kind, n.Name, "explanation", n.Explanation)
	}
}

// withdrawFromOthers removes what is published at servers that the next configuration does
// not have, as far as that can be done in a moment, and returns the rest.
func (s *sidecar) withdrawFromOthers(records []busylamp.Record, next map[string]string) (kept []busylamp.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawTime)
	defer cancel()
	var workers sync.WaitGroup
	places := make(chan struct{}, defaultPublisher().MaxOutstanding)
	mine := s.cfg.ids()
	var dropped []busylamp.StoreOp
	for _, r := range records {
		if next[r.Publisher] == mine[r.Publisher] {
			kept = append(kept, r)
			continue
		}
		dropped = append(dropped, busylamp.StoreOp{Record: r, Delete: true})
		for i, p := range s.cfg.Publishers {
			if p.Name == r.Publisher {
				places <- struct{}{}
				workers.Go(func() {
					s.publishers[i].Publish(ctx, busylamp.Request{Kind: busylamp.Remove, Presentity: r.Presentity, Tag: r.Tag})
					<-places
				})
			}
		}
	}
	workers.Wait()
	s.state.keep(mine, dropped)
	return kept
}
