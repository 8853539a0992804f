package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
	"github.com/busylamp/busylamp/integration/stack"
)

// TestDiskFull: the disk of the state fills up under 50 calls/s. Presence goes on, /readyz
// and a metric say that nothing is kept; when there is room again everything is, what
// happened meanwhile included: a sidecar killed -9 then takes over all that is published.
func TestDiskFull(t *testing.T) {
	t.Parallel() // it waits most of the time
	const rate, users, long = 50, 400, 25
	disk := smallDisk(t, "64m")
	sc := newScene(t, stack.KamailioOptions{})
	sc.register(t, users+long)
	sc.start(t, stack.SidecarConfig{State: filepath.Join(disk, "state"), Expires: 2 * time.Minute})
	stop := sc.endless(rate, 2*time.Second, users)
	time.Sleep(3 * time.Second)
	check(t, sc.keeps(true))

	free := fillDisk(t, disk)
	full := time.Now()
	check(t, sc.Wait(sc.ctx, 10*time.Second, "word that nothing is kept", func() error { return sc.keeps(false) }))
	told := time.Since(full)
	held := sc.phones.Run(sc.ctx, stack.Load{Rate: rate, For: long * time.Second / rate, Hold: -1, // nothing of these is kept yet
		Pair: func(i int) (string, string) { return pair(users + i) }})
	noFailures(t, held)
	worst, looks := 0, 0
	for ; time.Since(full) < 10*time.Second; looks++ {
		worst = max(worst, sc.wrong())
		time.Sleep(50 * time.Millisecond)
	}
	if worst > slack {
		t.Errorf("on a full disk up to %d lamps were wrong, in %d looks", worst, looks)
	}
	check(t, sc.keeps(false))
	free()
	freed := time.Now()
	check(t, sc.Wait(sc.ctx, 30*time.Second, "word that all is kept again", func() error { return sc.keeps(true) }))
	recovered := time.Since(freed)

	res := stop()
	noFailures(t, res)
	sc.agrees(t, 10*time.Second)
	time.Sleep(time.Second) // for the store
	sc.sidecar.Kill()
	check(t, sc.sidecar.Start())
	check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
	sc.agrees(t, 10*time.Second)
	time.Sleep(time.Second)
	if twice := sc.twice(); len(twice) > 0 {
		t.Errorf("after the kill %d of the %d users whose publications began on the full disk have two: they were not taken over: %.200v", len(twice), 2*long, twice)
	}
	sc.hangup(t, 200)
	clear := sc.agrees(t, 10*time.Second)
	if res.Placed < 10*rate {
		t.Errorf("%d calls, too few to prove anything", res.Placed)
	}
	record.Fault(t, "disk-full", 1, "%d calls at %d/s, at most %d lamps not there yet in %d looks; /readyz says so %.1f s after the disk was full, and is well %.1f s after there was room; after a kill -9 then all of %d publications were taken over, and clear %.2f s after the last BYE",
		res.Placed+len(held.Calls), rate, worst, looks, told.Seconds(), recovered.Seconds(), 2*long, clear.Seconds())
}

// keeps returns an error unless /readyz and the metrics say that what is published is kept,
// or that it is not.
func (sc *scene) keeps(well bool) error {
	text, err := sc.sidecar.Readyz(sc.ctx)
	if err != nil {
		return err // a full disk is no reason to be restarted
	}
	m, err := sc.sidecar.Metrics(sc.ctx)
	if err != nil {
		return err
	}
	failing := m["busylamp_state_failing"]
	if says := strings.Contains(text, "state: not kept"); says == well || (failing != 0) == well {
		return fmt.Errorf("busylamp_state_failing is %v, and /readyz says: %s", failing, text)
	}
	return nil
}

// twice returns the users who have more than one publication.
func (sc *scene) twice() (users []string) {
	for user, n := range sc.recorder.Lit() {
		if n > 1 {
			users = append(users, user)
		}
	}
	return users
}

// smallDisk mounts a file system of a size, for a test to fill.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		how := fmt.Sprintf("a tmpfs cannot be mounted (%v): run this test as root", err)
		if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fillDisk takes all the room there is, until free.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "somebody-elses")
	f, err := os.Create(name)
	check(t, err)
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if e := f.Close(); !errors.Is(err, syscall.ENOSPC) || e != nil {
		t.Fatal(err, e)
	}
	return func() { check(t, os.Remove(name)) }
}

// TestDiskDamaged: a live sidecar is killed and its store damaged, at random places, before
// it starts again. Whatever it can make of that, the lamps are right: it takes over what it
// can read, or sets the store aside, says so and begins with what the proxy says.
func TestDiskDamaged(t *testing.T) {
	t.Parallel() // it waits most of the time
	const rounds, calls, expires = 8, 20, 10 * time.Second
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	sc := newScene(t, stack.KamailioOptions{})
	sc.register(t, rounds*calls)
	sc.start(t, stack.SidecarConfig{Expires: expires})
	store := filepath.Join(sc.sidecar.State, "publications")
	var slowest time.Duration
	for round := range rounds {
		noFailures(t, sc.phones.Run(sc.ctx, stack.Load{Rate: 100, For: calls * time.Second / 100, Hold: -1,
			Pair: func(i int) (string, string) { return pair(round*calls + i) }}))
		sc.agrees(t, 10*time.Second)
		time.Sleep(100 * time.Millisecond) // for the store
		sc.sidecar.Kill()
		what := damage(t, rng, store, round)
		before := len(setAside(t, store))
		up := sc.phones.Up() // half of them end while nobody sees it
		for _, c := range up[:len(up)/2] {
			check(t, c.Hangup(sc.ctx))
		}
		began := time.Now()
		check(t, sc.sidecar.Start())
		check(t, sc.sidecar.WaitReady(sc.ctx, 20*time.Second))
		inDoubt := sc.agrees(t, expires+5*time.Second) // what is not taken over expires
		slowest = max(slowest, time.Since(began))
		aside := len(setAside(t, store)) - before
		text, err := os.ReadFile(sc.sidecar.Log)
		check(t, err)
		if told := strings.Contains(string(text), "set aside"); aside > 1 || told != (aside == 1) {
			t.Errorf("%s: %d set aside, told of it: %v; the log says:\n%s", what, aside, told, sc.sidecar.Tail())
		}
		if round == 0 && aside != 1 {
			t.Errorf("%s: nothing was set aside, so this test proves nothing", what)
		}
		t.Logf("%s: %d set aside; lamps right after %v", what, aside, inDoubt.Round(10*time.Millisecond))
	}
	sc.hangup(t, 200)
	sc.agrees(t, expires+5*time.Second)
	record.Fault(t, "disk-corrupt", rounds, "a live sidecar's store damaged between two lives, at random places: %d set aside and reported, lamps right %.1f s after the start at most (records that are lost expire, %v)",
		len(setAside(t, store)), slowest.Seconds(), expires)
}

// damage does something to a file of a store, and says what: in the first round to one that
// it cannot be opened without, then to any.
func damage(t *testing.T, rng *rand.Rand, dir string, round int) string {
	t.Helper()
	pattern := "*"
	if round == 0 {
		pattern = "MANIFEST-*"
	}
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	check(t, err)
	if len(names) == 0 {
		t.Fatalf("no %s in %s", pattern, dir)
	}
	name := names[rng.IntN(len(names))]
	data, err := os.ReadFile(name)
	check(t, err)
	if round == 0 {
		check(t, os.Remove(name))
		return filepath.Base(name) + " removed"
	}
	if len(data) == 0 {
		check(t, os.WriteFile(name, []byte("garbage"), 0o600))
		return filepath.Base(name) + ", which was empty, filled"
	}
	at := rng.IntN(len(data))
	how := fmt.Sprintf("%s (%d bytes) ", filepath.Base(name), len(data))
	switch rng.IntN(3) {
	case 0:
		data[at] ^= 1 << rng.IntN(8)
		how += fmt.Sprintf("with a bit of byte %d flipped", at)
	case 1:
		data = data[:at]
		how += fmt.Sprintf("cut at %d", at)
	default:
		for i := at; i < min(at+512, len(data)); i++ {
			data[i] = byte(rng.Uint32())
		}
		how += fmt.Sprintf("with noise at %d", at)
	}
	check(t, os.WriteFile(name, data, 0o600))
	return how
}

// setAside returns what stands beside a store under a new name.
func setAside(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(dir + ".bad-*")
	check(t, err)
	return names
}

// TestSecondSidecar: a second sidecar on the state of one that runs is refused with a word
// on what to do, and the first goes on, undisturbed.
func TestSecondSidecar(t *testing.T) {
	t.Parallel() // it waits most of the time
	sc := newScene(t, stack.KamailioOptions{})
	sc.register(t, 1)
	sc.start(t, stack.SidecarConfig{})
	second, err := sc.Sidecar(sc.ctx, stack.SidecarConfig{Evapi: sc.proxy.Evapi, RPC: sc.proxy.RPC, Server: sc.recorder.Addr, State: sc.sidecar.State})
	check(t, err)
	began := time.Now()
	code, err := second.WaitExit(20 * time.Second)
	check(t, err)
	took := time.Since(began)
	text := second.Tail()
	for _, want := range []string{sc.sidecar.State, "another busylamp uses this directory", "state:"} {
		if code != 1 || !strings.Contains(text, want) {
			t.Errorf("exit code %d, want 1, and %q in what it said: %s", code, want, text)
		}
	}
	newCall(t, sc)
	check(t, sc.keeps(true))
	record.Fault(t, "second-sidecar", 1, "refused after %.2f s, exit code %d, naming directory and fix; the first one's next call lights and clears", took.Seconds(), code)
}
