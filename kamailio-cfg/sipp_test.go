package kamailiocfg

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// sipp starts a scenario of testdata for one call.
func sipp(t *testing.T, scenario string, args ...string) *process {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("testdata", scenario))
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-sf", file, "-i", "127.0.0.1", "-m", "1", "-nostdin", "-timeout", "15s", "-timeout_error"}, args...)
	p := start(t, command(t, "sipp"), args...)
	t.Cleanup(p.kill) // before stop: SIGTERM would wait for the call's end
	return p
}

// device registers a device of a user and runs a scenario on it.
func (p *proxy) device(t *testing.T, user, scenario string) *process {
	t.Helper()
	d := sipp(t, scenario, "-p", strconv.Itoa(p.register(t, user)))
	time.Sleep(100 * time.Millisecond) // sipp says nowhere that it listens
	return d
}

// call starts a call that lasts for so long, after its answer or while it rings.
func (p *proxy) call(t *testing.T, scenario, from, to string, lasts time.Duration, more ...string) *process {
	t.Helper()
	args := append([]string{"-p", strconv.Itoa(freePort(t)), "-key", "from", from, "-s", to,
		"-key", "domain", "example.com", "-d", strconv.Itoa(int(lasts.Milliseconds()))}, more...)
	return sipp(t, scenario, append(args, p.addr())...)
}

const (
	briefly = 200 * time.Millisecond
	longer  = 1500 * time.Millisecond
)
