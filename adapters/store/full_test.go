package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	faults "github.com/busylamp/busylamp/integration/record"
)

// small mounts a file system of a size, for a test to fill.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		how := fmt.Sprintf("a tmpfs cannot be mounted (%v): run this test as root", err)
		if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	t.Cleanup(func() {
		err := unix.Unmount(dir, 0)
		for end := time.Now().Add(5 * time.Second); err == unix.EBUSY && time.Now().Before(end); err = unix.Unmount(dir, 0) {
			time.Sleep(10 * time.Millisecond) // a process that another test starts has our files until it is another program
		}
		if err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill takes all the room there is, but for what is to be left, with a file that free
// removes. What becomes free in between the next fill takes.
func fill(t *testing.T, dir string, left int64) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "somebody-elses")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	size, e := f.Seek(0, io.SeekEnd)
	if !errors.Is(err, syscall.ENOSPC) || e != nil {
		t.Fatal(err, e)
	}
	if err := errors.Join(f.Truncate(max(0, size-left)), f.Close()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk: a real file system fills up, at once or down to a few pages, and is freed
// again, several times. Commits fail with an error that says so, within a moment; once there
// is room they succeed, and nothing that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	var refusals atomic.Int64
	t.Run("disks", func(t *testing.T) { fullDisks(t, &refusals) })
	faults.Fault(t, "disk-full", int(refusals.Load()), "commits to a file system that is full, or all but a few pages, refused with an error that says so; with room again all was taken, and nothing that was acknowledged is lost")
}

func fullDisks(t *testing.T, refusals *atomic.Int64) {
	for _, c := range []struct {
		name    string
		size    string
		reserve int64
		left    []int64 // bytes
	}{
		{"with the default reserve", "64m", 0, []int64{0, 1 << 20}},
		{"to the last byte", "16m", -1, []int64{0, 4096, 8192, 20_000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log captured
			disk := small(t, c.size)
			clock := newFakeClock()
			dir := filepath.Join(disk, "publications")
			s := open(t, dir, Options{clock: clock.clock(1), reserve: c.reserve, Log: log.logger()})
			o := newOwner()
			o.flush = c.reserve < 0
			n := 0
			for _, left := range c.left {
				for range 5 {
					if err := o.step(s, n); err != nil {
						t.Fatal(err)
					}
					n++
				}
				var free func()
				refused := 0
				for range 30 {
					free = fill(t, disk, left)
					begun := time.Now()
					if err := o.step(s, n%50); errors.Is(err, syscall.ENOSPC) && strings.Contains(err.Error(), dir) {
						refused++
						refusals.Add(1)
					} else if err != nil {
						t.Fatalf("Commit says %v", err)
					}
					if d := time.Since(begun); d > 5*time.Second {
						t.Errorf("a commit to a full disk took %v", d)
					}
					n++
					clock.pass(time.Second)
				}
				if refused == 0 {
					t.Errorf("with %d bytes left nothing was refused", left)
				}
				free()
				clock.pass(maxPause)
				if err := o.commit(s); err != nil {
					t.Fatalf("with room again, Commit says %v", err)
				}
				if !o.isIn(t, s) {
					t.Fatal("the store does not hold what was committed")
				}
			}
			_ = s.Close()
			if s = open(t, dir, Options{clock: clock.clock(1), reserve: -1}); !o.isIn(t, s) {
				t.Error("the next life does not find what was committed")
			}
			_ = s.Close()
			if o.lost > 0 || len(aside(t, dir)) > 0 {
				t.Errorf("lost %d times, set aside %v: %s", o.lost, aside(t, dir), log.String())
			}
			// The reserve is what spares the database; without it, it has to be given up.
			if gaveUp := strings.Contains(log.String(), "not kept"); gaveUp != (c.reserve < 0) {
				t.Errorf("the database was given up: %v: %s", gaveUp, log.String())
			}
		})
	}
}

// TestStartOnFullDisk: the sidecar starts while the disk is full. It learns what is out
// there, and keeps records as soon as there is room.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, reserve := range []int64{0, -1} {
		for _, before := range []int{0, written} {
			t.Run(fmt.Sprintf("reserve %d, %d records", reserve, before), func(t *testing.T) {
				t.Parallel()
				disk := small(t, "64m")
				dir := filepath.Join(disk, "publications")
				if before > 0 {
					filled(t, dir)
				}
				free := fill(t, disk, 0)
				clock := newFakeClock()
				clock.wall = time.Now()
				s := open(t, dir, Options{clock: clock.clock(1), reserve: reserve})
				if n := len(load(t, s)); n != before {
					t.Errorf("loaded %d, want %d", n, before)
				}
				if err := s.Commit(context.Background(), puts(written, written+1)); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("Commit says %v", err)
				}
				free()
				clock.pass(maxPause)
				commit(t, s, puts(written, written+1)...)
				if n := len(load(t, s)); n != before+1 {
					t.Errorf("loaded %d with room again, want %d", n, before+1)
				}
				if n := len(aside(t, dir)); n != 0 {
					t.Error("set aside")
				}
				_ = s.Close()
			})
		}
	}
}
