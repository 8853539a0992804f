package pluginhost

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// starter starts all processes of a host from one thread that lives as long as they do.
// Linux sends PR_SET_PDEATHSIG's signal when the thread ends that started the process, not
// when the program does; and Go may end a thread whenever a goroutine was locked to it.
type starter struct {
	dir  string // of mode 0700, for the plugins' sockets and temporary files
	jobs chan func()
	done sync.WaitGroup
}

func newStarter() (*starter, error) {
	dir, err := os.MkdirTemp("", "busylamp-")
	if err != nil {
		return nil, err
	}
	s := &starter{dir: dir, jobs: make(chan func())}
	s.done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for job := range s.jobs {
			job()
		}
	})
	return s, nil
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
}
