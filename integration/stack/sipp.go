package stack

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// The scenarios. In each, call number N (from 1) has a user of its own, PREFIX and N.
//
//   - uac: [key caller]N calls [key callee]N, talks for -d milliseconds and hangs up; the
//     Record-Route set is kept, so that the BYE carries Route
//   - pair: the same for -inf FILE with lines caller;callee
//   - uas: answers and waits for the BYE
//   - ring: the same, after half a second of ringing
//   - register: registers [key callee]N at [key contact], host:port
//
//go:embed scenarios/*.xml
var scenarios embed.FS

// Sipp starts sipp with one of the scenarios; args are sipp's, with the remote address if
// the scenario needs one. It uses a free port unless args say -p.
func (s *Stack) Sipp(scenario string, args ...string) (*Process, error) {
	path, err := exec.LookPath("sipp")
	if err != nil {
		return nil, Tools("sipp")
	}
	file, err := s.Scenario(scenario)
	if err != nil {
		return nil, err
	}
	all := []string{"-sf", file, "-i", "127.0.0.1", "-nostdin", "-aa"}
	if !strings.Contains(" "+strings.Join(args, " ")+" ", " -p ") {
		port := 0
		if err := ports(&port); err != nil {
			return nil, fmt.Errorf("sipp: %w", err)
		}
		all = append(all, "-p", fmt.Sprint(port))
	}
	return s.start(program{name: "sipp-" + scenario, path: path, args: append(all, args...), death: syscall.SIGKILL, brief: true})
}

// Scenario writes an embedded scenario into the stack's folder and returns its path.
func (s *Stack) Scenario(name string) (string, error) {
	text, err := scenarios.ReadFile("scenarios/" + name + ".xml")
	if err != nil {
		return "", fmt.Errorf("no sipp scenario %q: %w", name, err)
	}
	file := s.file(name + ".xml")
	return file, os.WriteFile(file, text, 0o600)
}

// Succeed waits for a sipp that ends by itself, and returns an error unless every call was
// as its scenario says.
func (p *Process) Succeed(patience time.Duration) error {
	code, err := p.WaitExit(patience)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s: exit status %d: not every call went well; its log %s ends:\n%s", p.Name, code, p.Log, p.Tail())
	}
	return err
}
