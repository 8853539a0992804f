package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

// child commits records without end and says on its standard output how many are done. Its
// tags count the commits, so that a stale record shows.
func child(dir string) int {
	var o Options
	if os.Getenv("STORE_TEST_UNSETTLED") != "" {
		o.every = -1
	}
	s, err := Open(dir, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv("STORE_TEST_HOLD") != "" { // only keep the directory, until killed
		_, _ = os.Stdout.Write(make([]byte, 4))
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	for n := uint32(1); ; n++ {
		ops := make([]busylamp.StoreOp, 0, 64)
		for i := range 64 {
			r := record(int(n)*7%500 + i)
			r.Tag = fmt.Sprintf("%d", n)
			ops = append(ops, busylamp.StoreOp{Record: r, Delete: i%13 == 12})
		}
		if err := s.Commit(context.Background(), ops); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if _, err := os.Stdout.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			return 1
		}
	}
}

// start runs a child on a directory.
func start(t *testing.T, dir string, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "STORE_TEST_CHILD="+dir), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

// TestKill: a process is killed (SIGKILL) at random, twenty times; every other one leaves
// what it commits to the journal until that is full. What it said was committed is there,
// each commit wholly or not at all.
func TestKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	total := 0
	for n := range 20 {
		dir := place(t)
		cmd, out := start(t, dir, []string{"", "STORE_TEST_UNSETTLED=1"}[n%2])
		acknowledged := uint32(0)
		var b [4]byte
		timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // never begun
		for first := true; ; first = false {
			if _, err := io.ReadFull(out, b[:]); err != nil {
				break
			}
			acknowledged = binary.BigEndian.Uint32(b[:])
			if first {
				timer.Reset(time.Duration(rng.IntN(150_000)) * time.Microsecond)
			}
		}
		timer.Stop()
		_ = cmd.Wait()
		if acknowledged == 0 {
			t.Fatalf("seed %d: the child committed nothing", seed)
		}
		total += int(acknowledged)
		s := open(t, dir, Options{})
		if got := load(t, s); !isAfter(got, acknowledged) && !isAfter(got, acknowledged+1) {
			t.Fatalf("seed %d: after %d commits were acknowledged the store has neither %[2]d nor one more", seed, acknowledged)
		}
		_ = s.Close()
	}
	faults.Fault(t, "sidecar-killed-steps", 20, "a process that only commits, killed -9 at random: of %d commits that were acknowledged none was lost, and each was there wholly or not at all", total)
	t.Logf("seed %d", seed)
}

// isAfter says whether records are what the child's first n commits leave.
func isAfter(got map[id]busylamp.Record, n uint32) bool {
	want := map[busylamp.Presentity]string{}
	for c := uint32(1); c <= n; c++ {
		for i := range 64 {
			p := record(int(c)*7%500 + i).Presentity
			if want[p] = fmt.Sprint(c); i%13 == 12 {
				delete(want, p)
			}
		}
	}
	for k, r := range got {
		if want[k.presentity] != r.Tag {
			return false
		}
	}
	return len(got) == len(want)
}
