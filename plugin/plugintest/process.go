package plugintest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"
)

// process is a source's process, as go-plugin runs one. Its standard output after the first
// line, and the end of its standard error, are kept for the findings.
type process struct {
	cmd    *exec.Cmd
	first  *io.PipeReader // the first line of standard output
	exited chan struct{}  // closed when the last holder of its output is gone

	mu     sync.Mutex
	extra  []byte // of standard output, after the first line
	stderr []byte // its end
}

const (
	keptOut = 200
	keptErr = 2000
)

// newProcess prepares a command. With a parent, a shell starts it and is its parent, whose
// end can be tried.
func newProcess(command, env []string, parent bool) (*process, error) {
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{self}
	}
	if strings.Contains(command[0], "/") {
		path, err := filepath.Abs(command[0])
		if err != nil {
			return nil, err
		}
		command = append([]string{path}, command[1:]...)
	}
	if parent {
		command = append([]string{"/bin/sh", "-c", `"$@" & wait`, "sh"}, command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "LANG=C.UTF-8")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &process{cmd: cmd, exited: make(chan struct{})}, nil
}

// Start is part of runner.Runner.
func (p *process) Start(context.Context) error {
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s does not start: %w", p.cmd.Path, err)
	}
	r, w := io.Pipe()
	p.first = r
	var reading sync.WaitGroup
	reading.Go(func() { p.readOut(stdout, w) })
	reading.Go(func() { p.readErr(stderr) })
	go func() {
		reading.Wait()
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// readOut hands the first line on and keeps the rest.
func (p *process) readOut(from io.Reader, first *io.PipeWriter) {
	in := bufio.NewReaderSize(from, 64<<10)
	line, err := in.ReadSlice('\n')
	_, _ = first.Write(line)
	_ = first.Close()
	buf := make([]byte, 4096)
	for n := 0; err == nil || errors.Is(err, bufio.ErrBufferFull); {
		n, err = in.Read(buf)
		p.mu.Lock()
		p.extra = append(p.extra, buf[:min(n, keptOut-len(p.extra))]...)
		p.mu.Unlock()
	}
}

func (p *process) readErr(from io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		p.stderr = append(p.stderr, buf[:n]...)
		p.stderr = p.stderr[max(0, len(p.stderr)-keptErr):]
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// said returns what standard output had after the first line.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.extra)
}

// lastWords returns the end of standard error, for a finding.
func (p *process) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := strings.TrimSpace(string(p.stderr)); s != "" {
		return "; its standard error ends with: " + s
	}
	return ""
}

// signal sends one to the process itself: with a parent, to that.
func (p *process) signal(s syscall.Signal) error {
	if p.gone() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.cmd.Process.Pid, s)
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Kill is part of runner.Runner. It ends whatever is left of the process and its children.
func (p *process) Kill(context.Context) error {
	if p.cmd.Process == nil || p.gone() {
		return nil
	}
	err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// Wait is part of runner.Runner.
func (p *process) Wait(context.Context) error {
	<-p.exited
	return nil
}

// Stdout is part of runner.Runner.
func (p *process) Stdout() io.ReadCloser { return p.first }

// Stderr is part of runner.Runner. What comes there is not go-plugin's to parse.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(bytes.NewReader(nil)) }

// Name is part of runner.Runner.
func (p *process) Name() string { return p.cmd.Path }

// ID is part of runner.Runner.
func (p *process) ID() string { return strconv.Itoa(p.cmd.Process.Pid) }

// Diagnose is part of runner.Runner.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost is part of runner.Runner.
func (p *process) PluginToHost(net, addr string) (string, string, error) { return net, addr, nil }

// HostToPlugin is part of runner.Runner.
func (p *process) HostToPlugin(net, addr string) (string, string, error) { return net, addr, nil }

var _ runner.Runner = (*process)(nil)

// quiet is the log of go-plugin's own that nobody reads: findings say what matters.
func quiet() hclog.Logger { return hclog.NewNullLogger() }
