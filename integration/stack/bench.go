package stack

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// EmptyTables makes a database of empty text tables by Kamailio's schema and returns its folder.
func (s *Stack) EmptyTables(folder string, tables ...string) (string, error) {
	return s.emptyTables(folder, tables...)
}

// Member is a process of a [Kamailio].
type Member struct {
	PID  int
	Role string // as Kamailio calls it: "udp receiver child=0 sock=127.0.0.1:5060"
}

// Members returns the processes of a Kamailio.
func (k *Kamailio) Members() (all []Member, err error) {
	out, err := k.Kamcmd("core.psx")
	if err != nil {
		return nil, err
	}
	var m Member
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); name {
		case "PID":
			m.PID, err = strconv.Atoi(value)
		case "DSC":
			m.Role = value
			all = append(all, m)
		}
		if err != nil {
			return nil, fmt.Errorf("kamcmd core.psx says %q: %w", line, err)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("kamcmd core.psx says: %.200s", out)
	}
	return all, nil
}

// CPU returns the CPU time that a process has had, threads that have ended included, to the
// nanosecond: the scheduler's account, not a count of ticks.
func CPU(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED; see clock_getcpuclockid(3)
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// SippStats is what a sipp that has ended says of its calls.
type SippStats struct {
	Created, Successful, Failed int
	Retransmissions             int
}

// ReadSippStats reads the file that sipp wrote by -trace_stat -stf FILE.
func ReadSippStats(file string) (s SippStats, err error) {
	f, err := os.Open(file)
	if err != nil {
		return s, err
	}
	defer f.Close()
	in := csv.NewReader(f)
	in.Comma, in.FieldsPerRecord = ';', -1
	rows, err := in.ReadAll()
	if err != nil || len(rows) < 2 {
		return s, fmt.Errorf("%s has %d rows: %w", filepath.Base(file), len(rows), cmp.Or(err, errors.New("no figures")))
	}
	last := rows[len(rows)-1]
	for name, n := range map[string]*int{"TotalCallCreated": &s.Created, "SuccessfulCall(C)": &s.Successful,
		"FailedCall(C)": &s.Failed, "Retransmissions(C)": &s.Retransmissions} {
		i := slices.Index(rows[0], name)
		if i < 0 || i >= len(last) {
			return s, fmt.Errorf("%s has no column %s", filepath.Base(file), name)
		}
		if *n, err = strconv.Atoi(last[i]); err != nil {
			return s, fmt.Errorf("%s, column %s: %w", filepath.Base(file), name, err)
		}
	}
	return s, nil
}
