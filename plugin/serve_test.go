package plugin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// The test's own binary is the source, too, and its argument says how it behaves.
func TestMain(m *testing.M) {
	plugintest.Main(m, func() { plugin.Serve(behaving(os.Args[len(os.Args)-1])) })
}

func behaving(how string) plugin.Source {
	s := &scripted{about: plugin.Description{Summary: "for tests"}, run: func(ctx context.Context, h plugin.Host) error {
		if how != "within" {
			slog.Warn("it starts", "how", how, slog.Group("deep", "n", 1))
			fmt.Println("to standard output") // goes to the host's log, and does no harm
		}
		h.Connector(plugin.Connector{State: plugin.Up})
		switch how {
		case "error":
			return errors.New("no luck")
		case "panic":
			panic("oh")
		case "crash":
			go func() { panic("elsewhere") }()
		}
		for r := range h.Requests() {
			for _, t := range r.Watch {
				h.Subscription(plugin.Subscription{Presentity: t.Presentity, State: plugin.Active})
			}
		}
		return nil
	}}
	s.configure = func(c plugin.Config) error { return c.Decode(&struct{}{}) }
	return s
}

// TestContract holds a source that does nothing to the contract, in a process and within.
func TestContract(t *testing.T) {
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		plugintest.Run(t, plugintest.Options{NoMTLS: true})
	})
	t.Run("within", func(t *testing.T) {
		t.Parallel()
		for _, f := range plugintest.Check(t.Context(), plugintest.Options{Source: func() plugin.Source { return behaving("within") }}) {
			t.Error(f)
		}
	})
}

// started is a source's process and what it wrote to standard error.
type started struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read after wait
	client pluginv1.SourceClient
}

// launch starts the source as a host does, with no more than the handshake's environment.
func launch(t *testing.T, how string) *started {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &started{cmd: exec.Command(self, how)}
	s.cmd.Env = []string{
		plugin.Handshake.MagicCookieKey + "=" + plugin.Handshake.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS=1", "TMPDIR=" + t.TempDir(),
	}
	s.cmd.Stderr = &s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	part := strings.Split(strings.TrimSpace(line), "|")
	if err != nil || len(part) < 5 {
		t.Fatalf("handshake: %q %v", line, err)
	}
	conn, err := grpc.NewClient("unix:"+part[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.client = pluginv1.NewSourceClient(conn)
	return s
}

// run configures the source, runs it, and returns what ended its stream.
func (s *started) run(t *testing.T) error {
	t.Helper()
	if _, err := s.client.Configure(t.Context(), &pluginv1.ConfigureRequest{}); err != nil {
		t.Fatal(err)
	}
	stream, err := s.client.Run(t.Context())
	for err == nil {
		_, err = stream.Recv()
	}
	return err
}

// wait returns how the process ended, and its log by line.
func (s *started) wait(t *testing.T) (int, []map[string]any) {
	t.Helper()
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the process lives on")
	}
	var lines []map[string]any
	for _, line := range strings.Split(s.stderr.String(), "\n") {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil {
			lines = append(lines, m)
		}
	}
	return s.cmd.ProcessState.ExitCode(), lines
}

// TestProcessEnds shows that an error and a panic end the process with a message in the log
// and in the stream, and that slog's lines arrive with their level and attributes.
func TestProcessEnds(t *testing.T) {
	for how, want := range map[string]string{"error": "no luck", "panic": "source: Run panicked: oh"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := launch(t, how)
			if err := s.run(t); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the host hears %v, want %q", err, want)
			}
			code, lines := s.wait(t)
			if code != 1 || len(lines) < 2 {
				t.Fatalf("exit code %d, log %v", code, lines)
			}
			first, last := lines[0], lines[len(lines)-1]
			if first["@level"] != "warn" || first["@message"] != "it starts" || first["how"] != how || first["deep"] == nil || first["@timestamp"] == nil {
				t.Errorf("first line: %v", first)
			}
			if last["@level"] != "error" || last["@message"] != want {
				t.Errorf("last line: %v", last)
			}
		})
	}
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		s := launch(t, "crash")
		_ = s.run(t)
		if code, _ := s.wait(t); code != 2 || !strings.Contains(s.stderr.String(), "panic: elsewhere") {
			t.Errorf("exit code %d: %s", code, &s.stderr)
		}
	})
}

// TestByHand shows what a person who starts a source is told.
func TestByHand(t *testing.T) {
	if os.Getenv("BUSYLAMP_TEST_BY_HAND") != "" {
		plugin.Serve(behaving("well"))
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestByHand$")
	cmd.Env = append(os.Environ(), "BUSYLAMP_TEST_BY_HAND=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "scripted 1 is a source for busylamp") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStreamErrors shows that Run is refused before Configure, and a second time.
func TestStreamErrors(t *testing.T) {
	s := launch(t, "well")
	stream, err := s.client.Run(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("Run before Configure: %v", err)
	}
}
