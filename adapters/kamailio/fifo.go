package kamailio

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fifo is the path of jsonrpcs' FIFO. A request names a FIFO of ours below
// fifoReplyDir (jsonrpcs' default), and Kamailio writes its answer there.
type fifo string

// fifoReplyDir is jsonrpcs' fifo_reply_dir, unless its configuration says otherwise.
var fifoReplyDir = "/tmp"

// maxLine is PIPE_BUF: a longer line could be mixed with another writer's.
const maxLine = 4096

func (f fifo) send(ctx context.Context, request []byte) (io.ReadCloser, error) {
	name := "busylamp_" + rand.Text()
	path := filepath.Join(fifoReplyDir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("mkfifo %s: %w", path, err)
	}
	defer os.Remove(path)
	// Kamailio may run as another user, and has to write here.
	if err := os.Chmod(path, 0o622); err != nil {
		return nil, err
	}
	reply, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer reply.Close()
	// While nobody writes, reading would give an end of file: so we do until Kamailio does.
	hold, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	line := bytes.Replace(request, []byte(`,"params":`), fmt.Appendf(nil, `,"reply_name":"%s","params":`, name), 1)
	if err := f.write(ctx, append(line, '\n')); err != nil {
		return nil, err
	}
	return readFIFO(ctx, reply, hold)
}

func (f fifo) write(ctx context.Context, line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("a request of %d bytes: at most %d go through a FIFO", len(line), maxLine)
	}
	if st, err := os.Stat(string(f)); err == nil && st.Mode()&os.ModeNamedPipe == 0 {
		return errors.New("no FIFO, but another kind of file")
	}
	w, err := os.OpenFile(string(f), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%w (does Kamailio run, and is this the fifo_name of its jsonrpcs?)", err)
	}
	defer w.Close()
	defer context.AfterFunc(ctx, func() { w.SetWriteDeadline(time.Now()) })()
	_, err = w.Write(line)
	return err
}

// readFIFO reads the whole answer. From its first byte on Kamailio's end of file counts.
func readFIFO(ctx context.Context, reply, hold *os.File) (io.ReadCloser, error) {
	defer context.AfterFunc(ctx, func() { reply.SetReadDeadline(time.Now()) })()
	all := make([]byte, 64<<10)
	n, err := reply.Read(all)
	hold.Close()
	var rest []byte
	if err == nil {
		rest, err = io.ReadAll(io.LimitReader(reply, maxReply+1))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return io.NopCloser(bytes.NewReader(append(all[:n], rest...))), err
}
