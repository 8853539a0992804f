package store

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clock tells the time twice: by the wall, which goes on while the machine is off but jumps
// when somebody sets it, and since boot, which never jumps but begins anew.
type clock struct {
	wall func() time.Time
	up   func() time.Duration // since boot, suspension included
	boot uint64               // names this boot; 0 when it is not known
}

// moment is a point in time by both clocks, in ms.
type moment struct {
	boot     uint64
	up, wall int64
}

func (c *clock) now() moment {
	return moment{boot: c.boot, up: c.up().Milliseconds(), wall: c.wall().UnixMilli()}
}

// plus returns the moment that is ms later.
func (m moment) plus(ms int64) moment { return moment{boot: m.boot, up: m.up + ms, wall: m.wall + ms} }

// until returns how many ms it is from now to m: by the time since boot where that has a
// meaning, so that a wall clock that was set in between does not matter.
func (m moment) until(now moment) int64 {
	if m.boot == now.boot && m.boot != 0 {
		return m.up - now.up
	}
	return m.wall - now.wall
}

// systemClock returns the machine's own.
func systemClock() *clock {
	c := &clock{wall: time.Now, up: sinceBoot}
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return c // sinceBoot means nothing: the wall clock decides
	}
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // a random UUID; none means 0
	b, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(id)), "-", ""))
	if len(b) >= 8 {
		c.boot = binary.BigEndian.Uint64(b)
	}
	return c
}

func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
