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
const fifoReplyDir = "/tmp"

func (f fifo) send(ctx context.Context, request []byte) (io.ReadCloser, error) {
	name := "busylamp_" + rand.Text()
	path := filepath.Join(fifoReplyDir, name)
	// Kamailio may run as another user, and has to write here.
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("fifo %s: %w", path, err)
	}
	defer os.Remove(path)
	if err := os.Chmod(path, 0o622); err != nil {
		return nil, err
	}
	reply, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("fifo %s: %w", path, err)
	}
	if err := f.write(append(bytes.Replace(request, []byte(`,"params":`), fmt.Appendf(nil, `,"reply_name":"%s","params":`, name), 1), '\n')); err != nil {
		reply.Close()
		return nil, err
	}
	return readFIFO(ctx, reply)
}

func (f fifo) write(line []byte) error {
	w, err := os.OpenFile(string(f), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("fifo: %w (does Kamailio run, with this fifo_name?)", err)
	}
	defer w.Close()
	w.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = w.Write(line)
	return err
}

// readFIFO reads the whole answer. Until Kamailio opens our FIFO, reading gives an end of
// file, too.
func readFIFO(ctx context.Context, reply *os.File) (io.ReadCloser, error) {
	defer reply.Close()
	stop := context.AfterFunc(ctx, func() { reply.SetReadDeadline(time.Now()) })
	defer stop()
	var all bytes.Buffer
	for {
		n, err := all.ReadFrom(io.LimitReader(reply, maxReply))
		if err != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		if n == 0 && all.Len() > 0 {
			return io.NopCloser(&all), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}
