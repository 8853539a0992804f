package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp/plugin"
)

// runner is one process of a plugin. go-plugin has a runner of its own, which parses what
// the process logs (and ends us with a panic where a line is not as it expects), has no
// process group, and waits for the end of pipes that a grandchild may hold.
type runner struct {
	starter *starter
	file    *binary
	logs    *logs
	dir     string // its own, "" as long as it was not prepared
	cmd     *exec.Cmd
	greeter greeter // its standard output
	stderr  *os.File
	reading sync.WaitGroup // of stderr
	exited  chan struct{}  // closed when it has ended
	status  error          // how it ended; of meaning when exited is closed

	mu      sync.Mutex
	running bool // there is a process to be killed
	doomed  bool // it was killed, maybe before there was one
}

// plainEnv is all that a plugin has of our environment's kind. Ours holds secrets.
var plainEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

// prepare takes go-plugin's part of the environment and a private directory, which is the
// process's own.
func (r *runner) prepare(env []string, dir string) error {
	r.dir = dir
	// The open file is run, by its descriptor, so that it is the one whose digest was taken.
	// A copy would need a file system that programs can be run from, which a hardened /tmp is
	// not; one in memory (memfd) would cost its size, and hide a script's neighbours from it.
	// The link gives the process the name that ps shows.
	link := filepath.Join(dir, filepath.Base(r.file.path))
	if err := os.Symlink("/proc/self/fd/3", link); err != nil {
		return err
	}
	r.cmd = exec.Command(link)
	r.cmd.Args = []string{r.file.path}
	r.cmd.ExtraFiles = []*os.File{r.file.file}
	r.cmd.Dir = "/"
	r.cmd.Env = append(append([]string{}, plainEnv...), "TMPDIR="+dir, "HOME="+dir)
	r.cmd.Env = append(append(r.cmd.Env, plugin.LogLevelKey+"="+r.logs.level()), env...)
	// A process group of its own keeps a terminal's Ctrl-C from it. The signal of our death
	// ends it if we are killed and it does not look after that itself.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return nil
}

// Start is part of go-plugin's Runner, as are the other exported methods.
func (r *runner) Start(context.Context) error {
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		stdout.Close()
		stdoutEnd.Close()
		return err
	}
	r.cmd.Stdout, r.cmd.Stderr = stdoutEnd, stderrEnd
	err = r.starter.start(r.cmd)
	stdoutEnd.Close()
	stderrEnd.Close()
	if err != nil {
		stdout.Close()
		stderr.Close()
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		var no refusal
		if err = failure(err); errors.As(err, &no) {
			return refuse("%s cannot be run: %w: was it built for this system (%s)? is its file system mounted noexec?",
				r.file.path, err, goos)
		}
		if errors.Is(err, fs.ErrNotExist) { // the file itself is open
			return fmt.Errorf("%s cannot be run: %w: is what it runs by there, the program that its first line names, or a library?", r.file.path, err)
		}
		return fmt.Errorf("%s cannot be run: %w", r.file.path, err)
	}
	r.greeter.pipe, r.stderr = stdout, stderr
	r.reading.Go(func() {
		defer stderr.Close()
		r.logs.read(stderr)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = true
	if r.doomed {
		r.killGroup()
	}
	go r.wait()
	return nil
}

// wait ends the rest of the process group together with the process, and only then frees
// its number, which another group could have from then on.
func (r *runner) wait() {
	for {
		err := unix.Waitid(unix.P_PID, r.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	r.killGroup()
	r.running = false
	r.mu.Unlock()
	r.status = r.cmd.Wait()
	// Whoever has left the group may hold the pipes for ever.
	late := time.Now().Add(time.Second)
	r.greeter.pipe.SetReadDeadline(late)
	r.stderr.SetReadDeadline(late)
	close(r.exited)
}

// kill ends the process and its group at once.
func (r *runner) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doomed = true
	r.killGroup()
}

func (r *runner) killGroup() {
	if r.running {
		unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL)
		unix.Kill(r.cmd.Process.Pid, unix.SIGKILL)
	}
}

// fate returns how the process ended, "" if it has not, or if that is our own doing. It waits
// a moment, since its stream breaks before it is gone.
func (r *runner) fate() string {
	select {
	case <-r.exited:
	case <-time.After(100 * time.Millisecond):
		return ""
	}
	r.reading.Wait() // its last words
	var how *exec.ExitError
	if errors.As(r.status, &how) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if w, ok := how.Sys().(syscall.WaitStatus); r.doomed && ok && w.Signaled() && w.Signal() == syscall.SIGKILL {
			return ""
		}
		return "the process ended (" + how.Error() + ")"
	}
	return "the process ended by itself"
}

// remains returns when nothing of the process does: neither it nor what reads from it.
func (r *runner) remains() {
	r.mu.Lock()
	started := r.greeter.pipe != nil
	r.mu.Unlock()
	if started {
		<-r.exited
		r.reading.Wait()
	}
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
}

// Wait returns when the process has ended.
func (r *runner) Wait(context.Context) error {
	<-r.exited
	return r.status
}

// Kill ends the process.
func (r *runner) Kill(context.Context) error {
	r.kill()
	return nil
}

// Stdout is where the process greets.
func (r *runner) Stdout() io.ReadCloser { return &r.greeter }

// Stderr is nothing: we read it ourselves.
func (r *runner) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is for go-plugin's log.
func (r *runner) Name() string { return r.file.path }

// ID is never empty, or go-plugin would leave its directory behind when the start fails.
func (r *runner) ID() string { return r.file.path }

// Diagnose has nothing to add to our own errors.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost takes only a socket in the private directory: others could be anybody's.
func (r *runner) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" {
		return "", "", refuse("it listens on %s %s: a source has to listen on a unix socket in the directory that PLUGIN_UNIX_SOCKET_DIR names", shown(network), shown(address))
	}
	if dir := r.dir + "/"; !strings.HasPrefix(filepath.Clean(address), dir) {
		return "", "", refuse("its socket is %s, where others may be: a source has to listen in the directory that PLUGIN_UNIX_SOCKET_DIR (or TMPDIR) names", shown(address))
	}
	return network, address, nil
}

// HostToPlugin is of no use to us.
func (r *runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
