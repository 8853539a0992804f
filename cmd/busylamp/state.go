package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/store"
)

// state is what outlives the sidecar, even a kill: the publications that the servers have,
// for the next life to take over. It is one for all configurations of a life.
type state struct {
	*store.Keeper
	store  *store.Store
	loop   atomic.Pointer[busylamp.Loop] // the present one
	stop   context.CancelFunc
	ended  chan struct{}
	fenced chan struct{} // closed when another sidecar has taken the directory
	failed error         // why not everything is kept, once ended is closed
}

// loadTime bounds reading what an earlier life left.
const loadTime = time.Minute

// openState opens the state directory, which must be nobody else's.
func openState(dir string, log *slog.Logger) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %q: %w (choose a directory that this user may write)", dir, err)
	}
	s, err := store.Open(filepath.Join(dir, "publications"), store.Options{Log: log})
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	st := &state{Keeper: store.NewKeeper(s, log), store: s, stop: cancel, ended: make(chan struct{}), fenced: make(chan struct{})}
	go func() {
		defer close(st.ended)
		if st.failed = st.Run(ctx, st.all); errors.Is(st.failed, busylamp.ErrFenced) {
			close(st.fenced)
		}
	}()
	return st, nil
}

// all returns every record of the present loop, for a store that began anew.
func (s *state) all(ctx context.Context) ([]busylamp.Record, error) {
	loop := s.loop.Load()
	if loop == nil {
		return nil, nil
	}
	return loop.Records(ctx)
}

// close keeps what is still to be kept, as far as that is possible.
func (s *state) close() error {
	s.stop()
	<-s.ended
	return errors.Join(s.failed, s.store.Close())
}

// take returns what an earlier life left at these publishers. What it left elsewhere
// nobody can withdraw: it lapses by itself.
func (s *state) take(ids map[string]string, log *slog.Logger) []busylamp.Record {
	ctx, cancel := context.WithTimeout(context.Background(), loadTime)
	defer cancel()
	left, err := s.store.Load(ctx)
	if err != nil {
		log.Error("what was published is not taken over; it lapses by itself", "error", err)
	}
	ours := make(map[string]bool, len(ids))
	for _, id := range ids {
		ours[id] = true
	}
	records := left[:0]
	var others []busylamp.StoreOp
	for _, r := range left {
		if !ours[r.Publisher] {
			others = append(others, busylamp.StoreOp{Record: r, Delete: true})
			continue
		}
		r.Publisher, _, _ = strings.Cut(r.Publisher, idMark)
		records = append(records, r)
	}
	if len(others) > 0 {
		log.Warn("publications at servers that are no longer configured lapse by themselves", "publications", len(others))
		s.Keep(others)
	}
	return records
}

// keep has changes follow, for these publishers.
func (s *state) keep(ids map[string]string, ops []busylamp.StoreOp) {
	for i := range ops {
		ops[i].Record.Publisher = ids[ops[i].Record.Publisher]
	}
	s.Keep(slices.DeleteFunc(ops, func(op busylamp.StoreOp) bool { return op.Record.Publisher == "" }))
}

// idMark stands between a publisher's name and its server's mark in the store.
const idMark = "#"

// ids returns what the publishers are called in the store, by name: a publisher that has
// another server now has nothing of what it had. What an outbound proxy leads to may be
// another server, for all that we know.
func (c config) ids() map[string]string {
	m := make(map[string]string, len(c.Publishers))
	for _, p := range c.Publishers {
		mark := sha256.Sum256([]byte(p.Server + " by " + p.OutboundProxy))
		m[p.Name] = p.Name + idMark + hex.EncodeToString(mark[:4])
	}
	return m
}
