package stack

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// termPatience is how long a process may take to end before it is killed.
const termPatience = 5 * time.Second

// Process is a running program in a process group of its own. What it writes goes to Log.
type Process struct {
	Name string
	Log  string

	cmd    *exec.Cmd
	began  time.Time
	done   chan struct{}
	err    error // how it ended; read it after done
	mu     sync.Mutex
	wanted bool // its end is
}

// spawner starts programs from one thread that never ends: a child's death signal comes
// when the thread that made it ends, not the process.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// program says what to start, and how.
type program struct {
	name, path string
	args       []string
	env        []string       // beside this process's own
	death      syscall.Signal // is sent to the program when this process dies
	brief      bool           // ends by itself
	orphans    bool           // what it has started is left to itself when it ends
}

// start runs a program.
func (s *Stack) start(prog program) (*Process, error) {
	p := &Process{Name: prog.name, Log: s.file(prog.name + ".log"), began: time.Now(), done: make(chan struct{}),
		wanted: prog.brief}
	out, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(prog.path, prog.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.Dir, out, out
	// busylamp takes a BUSYLAMP_ variable for a key of its configuration.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BUSYLAMP_") })
	p.cmd.Env = append(env, prog.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: prog.death}
	started := make(chan error)
	spawner() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", prog.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		if !prog.orphans {
			p.Signal(syscall.SIGKILL) // whatever is left of the group
		}
		if !p.isWanted() {
			s.noteDeath(p.death())
		}
		close(p.done)
	}()
	s.onClose(func() error { p.Stop(); return nil })
	return p, nil
}

func (p *Process) isWanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted
}

// Expect says that the process may end from now on.
func (p *Process) Expect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
}

// death tells of an end that nobody had asked for.
func (p *Process) death() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended after %v (%s); its log %s ends:\n%s",
		p.Name, time.Since(p.began).Round(time.Millisecond), how, p.Log, p.Tail())
}

// Tail returns the last lines of what the process wrote.
func (p *Process) Tail() string {
	const lines = 12
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte{'\n'})
	var b strings.Builder
	for _, line := range all[max(0, len(all)-lines):] {
		fmt.Fprintf(&b, "    %.300s\n", line)
	}
	return b.String()
}

// PID returns the process's number, which is its group's, too.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process and all that it started.
func (p *Process) Signal(sig syscall.Signal) error { return syscall.Kill(-p.PID(), sig) }

// Freeze stops the process without ending it, until Thaw.
func (p *Process) Freeze() error { return p.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Kill ends the process without a warning.
func (p *Process) Kill() {
	p.Expect()
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop ends the process: by SIGTERM, and by SIGKILL if that does not help.
func (p *Process) Stop() {
	p.Expect()
	if _, ended := p.Exited(); ended {
		return
	}
	p.Signal(syscall.SIGTERM)
	p.Thaw()
	select {
	case <-p.done:
	case <-time.After(termPatience):
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
}

// Terminate sends SIGTERM and returns the exit code and how long it took.
func (p *Process) Terminate(patience time.Duration) (code int, took time.Duration, err error) {
	p.Expect()
	began := time.Now()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, 0, err
	}
	if code, err = p.WaitExit(patience); err != nil {
		return 0, 0, fmt.Errorf("after SIGTERM: %w", err)
	}
	return code, time.Since(began), nil
}

// WaitExit waits for the process to end by itself and returns its exit code.
func (p *Process) WaitExit(patience time.Duration) (code int, err error) {
	p.Expect()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		return 0, fmt.Errorf("%s still runs after %v; its log %s ends:\n%s", p.Name, patience, p.Log, p.Tail())
	}
}

// Exited returns the exit code if the process has ended.
func (p *Process) Exited() (code int, ended bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}
