package stack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Child is a process that a process of the stack has started.
type Child struct {
	PID  int
	Name string // of its program's file
	born string // in clock ticks since boot: a number is given again one day, with another birth
}

// Children returns a process's own children, by /proc.
func (p *Process) Children() ([]Child, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.PID()))
	if err != nil {
		return nil, err
	}
	var all []Child
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(field)
			f, err := procStat(pid)
			program, linked := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			if err != nil || linked != nil || f[statState] == "Z" {
				continue // it has ended
			}
			all = append(all, Child{PID: pid, Name: strings.TrimSuffix(filepath.Base(program), " (deleted)"), born: f[statBorn]})
		}
	}
	return all, nil
}

// Lives tells whether the process is still there, whoever is its parent by now.
func (c Child) Lives() bool {
	f, err := procStat(c.PID)
	return err == nil && f[statBorn] == c.born && f[statState] != "Z" && f[statState] != "X"
}

// Kill ends the process without a warning, if it is there.
func (c Child) Kill() error {
	if !c.Lives() {
		return fmt.Errorf("%s (%d) has ended already", c.Name, c.PID)
	}
	return syscall.Kill(c.PID, syscall.SIGKILL)
}

// Fields of /proc/PID/stat, from the state on, which is the first behind the name.
const (
	statState = 0
	statUser  = 11 // clock ticks
	statBorn  = 19
	statPages = 21
)

func procStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) <= statPages {
		return nil, fmt.Errorf("/proc/%d/stat is %q", pid, text)
	}
	return f, nil
}

// clockTick is what /proc counts time in, on Linux.
const clockTick = 10 * time.Millisecond

// Usage returns how many bytes of memory a process has resident, and how much CPU time it has
// had.
func Usage(pid int) (resident int, cpu time.Duration, err error) {
	f, err := procStat(pid)
	if err != nil {
		return 0, 0, err
	}
	var n [3]int
	for i, field := range []string{f[statPages], f[statUser], f[statUser+1]} {
		if n[i], err = strconv.Atoi(field); err != nil {
			return 0, 0, err
		}
	}
	return n[0] * os.Getpagesize(), time.Duration(n[1]+n[2]) * clockTick, nil
}
