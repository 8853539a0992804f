package pluginhost

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starter starts all processes of a host from one thread that lives as long as they do.
// Linux sends PR_SET_PDEATHSIG's signal when the thread ends that started the process, not
// when the program does; and Go may end a thread whenever a goroutine was locked to it.
type starter struct {
	dir  string   // of mode 0700, for the plugins' sockets and temporary files
	lock *os.File // the directory, locked as long as we live
	jobs chan func()
	done sync.WaitGroup
}

const dirPrefix = "busylamp-"

func newStarter() (*starter, error) {
	removeStale(os.TempDir(), time.Minute)
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		os.Remove(dir)
		return nil, err
	}
	// Where locks do not work a host that was killed leaves its directory behind.
	_ = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	// What we have opened ourselves is closed in a child. Descriptors that we were started with
	// may not be, and are no business of a plugin's. A kernel before 5.11 cannot.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	s := &starter{dir: dir, lock: lock, jobs: make(chan func())}
	s.done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for job := range s.jobs {
			job()
		}
	})
	return s, nil
}

// removeStale removes what hosts have left that were killed: our user's directories that
// nobody holds the lock of. One that is younger than age may not be locked yet.
func removeStale(temp string, age time.Duration) {
	dirs, _ := filepath.Glob(filepath.Join(temp, dirPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 || time.Since(info.ModTime()) < age {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		// A plugin's directory within has a name of go-plugin's; without one it may be anybody's.
		inside, err := f.Readdirnames(-1)
		ours := err == nil
		for _, name := range inside {
			if ok, _ := filepath.Match("plugin-dir*", name); !ok {
				ours = false
			}
		}
		if ours && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		f.Close()
	}
}

// start is cmd.Start.
func (s *starter) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	s.jobs <- func() { started <- cmd.Start() }
	return <-started
}

// close is called when no process is left.
func (s *starter) close() {
	close(s.jobs)
	s.done.Wait()
	os.RemoveAll(s.dir)
	s.lock.Close()
}
