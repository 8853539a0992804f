package kamailio

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fifoPeer stands in for jsonrpcs: answer gets a request and our FIFO.
func fifoPeer(t testing.TB, answer func(request string, reply *os.File)) (addr string) {
	t.Helper()
	was := fifoReplyDir
	fifoReplyDir = t.TempDir()
	path := filepath.Join(fifoReplyDir, "rpc.fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var q struct {
				ReplyName string `json:"reply_name"`
			}
			if err := json.Unmarshal(lines.Bytes(), &q); err != nil || filepath.Base(q.ReplyName) != q.ReplyName {
				t.Errorf("request %q: %v", lines.Text(), err)
				continue
			}
			reply, err := os.OpenFile(filepath.Join(fifoReplyDir, q.ReplyName), os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				t.Errorf("our FIFO: %v", err)
				continue
			}
			answer(lines.Text(), reply)
			reply.Close()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		<-ended
		if left, _ := filepath.Glob(filepath.Join(fifoReplyDir, "busylamp_*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		fifoReplyDir = was
	})
	return "fifo:" + path
}

func TestFIFO(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		answer func(reply *os.File)
		want   string // of the error
	}{
		"at once":     {func(w *os.File) { io.WriteString(w, `{"result":["`+long+`"]}`) }, ""},
		"late":        {func(w *os.File) { time.Sleep(100 * time.Millisecond); io.WriteString(w, `{"result":["`+long+`"]}`) }, ""},
		"slowly":      {func(w *os.File) { slowly(w, `{"result":["`+long+`"]}`) }, ""},
		"an error":    {func(w *os.File) { io.WriteString(w, `{"error":{"code":500,"message":"no"}}`) }, "Kamailio says 500 no"},
		"cut":         {func(w *os.File) { io.WriteString(w, `{"result":["`) }, "unexpected end"},
		"nothing":     {func(*os.File) {}, "0 bytes"},
		"a hang":      {func(*os.File) { time.Sleep(1500 * time.Millisecond) }, "deadline exceeded"},
		"half a hang": {func(w *os.File) { io.WriteString(w, `{"result"`); time.Sleep(1500 * time.Millisecond) }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := fifoPeer(t, func(_ string, w *os.File) { c.answer(w) })
			limit := 20 * time.Second
			if strings.Contains(c.want, "deadline") {
				limit = time.Second
			} else if name == "nothing" {
				limit, c.want = time.Second, "deadline exceeded" // an end without a word is none
			}
			var result []string
			err := client(t, addr).call(within(t, limit), &result, "dlg.briefing", "s")
			switch {
			case c.want == "" && (err != nil || len(result) != 1 || result[0] != long):
				t.Errorf("%d results, %v", len(result), err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), addr)):
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

func slowly(w io.Writer, s string) {
	for len(s) > 0 {
		n := min(len(s), 1+len(s)/3)
		io.WriteString(w, s[:n])
		s = s[n:]
		time.Sleep(5 * time.Millisecond)
	}
}

// TestFIFOMissing: no FIFO, none that is read, another kind of file.
func TestFIFOMissing(t *testing.T) {
	defer func(was string) { fifoReplyDir = was }(fifoReplyDir)
	dir := t.TempDir()
	fifoReplyDir = t.TempDir()
	unread, file := filepath.Join(dir, "unread"), filepath.Join(dir, "file")
	if err := syscall.Mkfifo(unread, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, file, "untouched")
	for path, want := range map[string]string{filepath.Join(dir, "none"): "fifo_name", unread: "does Kamailio run", file: "no FIFO"} {
		began := time.Now()
		err := client(t, "fifo:"+path).call(within(t, 20*time.Second), new([]brief), "dlg.briefing", "s")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || time.Since(began) > 10*time.Second {
			t.Errorf("%v after %v; want %q", err, time.Since(began), want)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "untouched" {
		t.Errorf("wrote to a file that is no FIFO: %q", b)
	}
	if left, _ := os.ReadDir(fifoReplyDir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFIFOFull: Kamailio hangs and its FIFO is full.
func TestFIFOFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "full")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err = error(nil); err == nil; {
		_, err = f.Write(make([]byte, 1024))
	}
	err = client(t, "fifo:"+path).call(within(t, 100*time.Millisecond), new([]brief), "dlg.briefing", "s")
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestFIFOLine: what is asked stays one line that no other writer can be mixed with.
func TestFIFOLine(t *testing.T) {
	var got string
	addr := fifoPeer(t, func(request string, w *os.File) { got = request; io.WriteString(w, `{"result":{}}`) })
	worst := strings.Repeat("\"", maxAsked-3) + "\n\\\x01"
	if err := client(t, addr).call(within(t, 20*time.Second), new(struct{}), "dlg.dlg_list", worst); err != nil {
		t.Fatal(err)
	}
	if len(got) > maxLine || !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":1,"method":"dlg.dlg_list","reply_name":"busylamp_`) {
		t.Errorf("%d bytes: %.100s", len(got), got)
	}
	err := client(t, addr).call(within(t, 20*time.Second), new(struct{}), "dlg.dlg_list", strings.Repeat("x", maxLine))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxLine)) {
		t.Errorf("%v", err)
	}
}

// FuzzFIFOReply: no answer through a FIFO does harm, and none is taken for another.
func FuzzFIFOReply(f *testing.F) {
	f.Add([]byte(`{"result":[]}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) == 0 {
			return
		}
		path := filepath.Join(t.TempDir(), "reply")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		reply, err1 := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		hold, err2 := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		w, err3 := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		defer reply.Close()
		go func() { w.Write(answer); w.Close() }()
		body, err := readFIFO(within(t, 20*time.Second), reply, hold)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(body); string(got) != string(answer) {
			t.Fatalf("%q, want %q", got, answer)
		}
	})
}
