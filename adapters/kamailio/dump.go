package kamailio

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/busylamp/busylamp"
)

// Kamailio can write its dialogs into a file (dlg.dump_file): a line of JSON for each, with
// its variables, in time that grows with their number and not with its square, and without
// any of its private memory. 100,000 dialogs take it about 1.5 s, where dlg.briefing takes
// 15 s and 30 MB, and dlg.list fails. So where proxy and sidecar share a file system, this
// is how to ask.
//
// Kamailio says nothing when it cannot write, and appends to whatever it is told to. So the
// file is made by us under a name that nobody can guess, in a directory where only we can
// make files; its space is reserved beforehand, so that no line is lost on a full disk; and
// a line that is cut, or a file above what was reserved, is an error and no list.

const (
	dumpMode    = 0o711     // of the directory: Kamailio passes, and nobody lists
	dumpLeast   = 4 << 20   // reserved at least
	dumpMost    = 1 << 30   // and at most: above a million dialogs
	dumpMaxLine = 256 << 10 // a dialog's variables and route sets come from phones
)

// errDumpFull says that the file has grown above what was reserved.
var errDumpFull = errors.New("the proxy has more dialogs than space was reserved for")

// dumper has a proxy write its dialogs into files below a directory.
type dumper struct {
	rpc      *RPC
	dir      string
	warn     func(error) // is told why there is no dump, when that begins; and nil when there is one again
	failing  bool
	retry    time.Time // when to try it again
	reserved int64     // what the next dump may take
	last     *os.File  // the last complete one, already without a name
}

// dumpRetry is how long a proxy whose dump has failed is asked in the other way: what it may
// have left where we cannot see it is not to pile up.
const dumpRetry = 5 * time.Minute

// due tells whether to try a dump.
func (d *dumper) due() bool { return !d.failing || !time.Now().Before(d.retry) }

// worked notes how a dump went, of a proxy that does answer: nil for well.
func (d *dumper) worked(err error) {
	if failed := err != nil; failed != d.failing {
		d.failing = failed
		d.warn(err)
	}
	d.retry = time.Now().Add(dumpRetry)
}

// sweepDumps makes the directory for dumps if it is missing, and removes what has been left
// there: by an earlier life, or by a Kamailio that wrote late. (Other proxies may be writing
// right now.) A directory in which somebody else can make files is an error: Kamailio would
// write where they point.
func sweepDumps(dir string) error {
	err := os.Mkdir(dir, dumpMode)
	if err == nil {
		return os.Chmod(dir, dumpMode) // whatever the umask
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !known || int(owner.Uid) != os.Geteuid() || info.Mode()&0o022 != 0 {
		return fmt.Errorf("%s (%v) must be a directory that is ours, and that nobody else can write to; remove it, and it will be made", dir, info.Mode())
	}
	old, err := filepath.Glob(filepath.Join(dir, dumpPrefix+"*"))
	for _, name := range old {
		if info, gone := os.Stat(name); gone == nil && time.Since(info.ModTime()) > dumpStale {
			err = errors.Join(err, os.Remove(name))
		}
	}
	return err
}

// dumpStale is far above the time that a list may take.
const dumpStale = 5 * time.Minute

const dumpPrefix = "dialogs-"

// list has the proxy write a dump and returns what is live in it. The dump stays at hand
// for details.
func (d *dumper) list(ctx context.Context) ([]busylamp.Listed, error) {
	d.close()
	if err := sweepDumps(d.dir); err != nil {
		return nil, err
	}
	for empty := 0; ; {
		f, err := d.dump(ctx)
		if err != nil {
			return nil, err
		}
		if size(f) == 0 {
			f.Close()
			if none, err := d.none(ctx); none || err != nil {
				return nil, err
			}
			if empty++; empty < 2 { // a call may have begun in between
				continue
			}
			return nil, fmt.Errorf("rpc %s: dlg.dump_file: the proxy has dialogs, and has written none to %s: may its user pass there, "+
				"and is it the same directory in both containers, if there are any?", d.rpc.addr, d.dir)
		}
		live, err := d.live(f)
		if err == nil {
			d.last = f
			d.reserved = min(max(dumpLeast, 2*size(f)), dumpMost)
			return live, unix.Ftruncate(int(f.Fd()), size(f)) // what was reserved beyond is free again
		}
		f.Close()
		if !errors.Is(err, errDumpFull) || d.reserved >= dumpMost {
			return nil, fmt.Errorf("rpc %s: dlg.dump_file in %s: %w", d.rpc.addr, d.dir, err)
		}
		d.reserved = min(4*d.reserved, dumpMost)
	}
}

// dump has the proxy write one.
func (d *dumper) dump(ctx context.Context) (f *os.File, err error) {
	path := filepath.Join(d.dir, dumpPrefix+rand.Text())
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		os.Remove(path)
		if err != nil {
			f.Close()
		}
	}()
	// Kamailio may run as another user, and opens it for reading, too.
	if err := f.Chmod(0o666); err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, d.reserved); err != nil {
		return nil, fmt.Errorf("reserving %d bytes for the proxy's dialogs in %s: %w", d.reserved, d.dir, err)
	}
	return f, d.rpc.call(ctx, new(struct{}), "dlg.dump_file", path)
}

// none asks by another way whether there are no dialogs: an empty file is also what a
// Kamailio leaves that may not write there.
func (d *dumper) none(ctx context.Context) (bool, error) {
	var all []brief
	err := d.rpc.call(ctx, &all, "dlg.briefing", "s")
	return len(all) == 0, err
}

func size(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func (d *dumper) close() {
	if d.last != nil {
		d.last.Close()
		d.last = nil
	}
}

// dumped is a line of a dump.
type dumped struct {
	Entry     uint32            `json:"h_entry"`
	ID        uint32            `json:"h_id"`
	CallID    string            `json:"call_id"`
	FromURI   string            `json:"from_uri"`
	State     int               `json:"state"`
	Timeout   int64             `json:"timeout"` // Unix time
	Variables map[string]string `json:"variables"`
}

func (d *dumped) dialog() busylamp.DialogID { return busylamp.DialogID{Entry: d.Entry, ID: d.ID} }

// event says what the line does, which was written at a time.
func (d *dumped) event(written time.Time) busylamp.CallEvent {
	callID := rawString(d.CallID)
	ev := busylamp.CallEvent{Dialog: d.dialog(), Stage: stageOf(d.State), Caller: rawString(d.FromURI),
		CallID: callID[:min(len(callID), maxCallID)], Lapses: lapses(d.Timeout, written)}
	for name, value := range d.Variables {
		setParty(&ev, name, value)
	}
	return ev
}

// live returns what is up in a dump.
func (d *dumper) live(f *os.File) (live []busylamp.Listed, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > d.reserved {
		return nil, errDumpFull
	}
	end := make([]byte, 1)
	if _, err := f.ReadAt(end, info.Size()-1); err != nil || end[0] != '\n' {
		return nil, errors.New("the last line is cut")
	}
	err = eachLine(f, func(text []byte) error {
		line, err := skimDumped(text)
		if stage := stageOf(line.State); err == nil && stage != busylamp.Ended {
			live = append(live, busylamp.Listed{Dialog: line.dialog(), Stage: stage, Lapses: lapses(line.Timeout, info.ModTime())})
		}
		return err
	})
	return live, err
}

// details states what the last dump says of some dialogs. It is as old as the list, which
// does no harm: an end since then is known, or its loss is.
func (d *dumper) details(ctx context.Context, wanted []busylamp.Listed, emit func([]busylamp.CallEvent)) error {
	defer d.close()
	if len(wanted) == 0 {
		return nil
	}
	info, err := d.last.Stat()
	if err != nil {
		return err
	}
	want := make(map[busylamp.DialogID]bool, len(wanted))
	for _, w := range wanted {
		want[w.Dialog] = true
	}
	var events []busylamp.CallEvent
	err = eachLine(d.last, func(text []byte) error {
		line, err := skimDumped(text)
		if err != nil || !want[line.dialog()] {
			return err
		}
		if line, err = readDumped(text); err != nil {
			return err
		}
		if events = append(events, line.event(info.ModTime())); len(events) == detailBatch {
			emit(events)
			events = nil
		}
		return ctx.Err()
	})
	if err == nil && len(events) > 0 {
		emit(events)
	}
	return err
}

// eachLine calls f with every line of a dump. A line that cannot be read is an error: a call
// that is missing in a list is taken to be over.
func eachLine(file *os.File, f func([]byte) error) error {
	lines := bufio.NewScanner(io.NewSectionReader(file, 0, dumpMost))
	lines.Buffer(make([]byte, 64<<10), dumpMaxLine)
	for n := 1; lines.Scan(); n++ {
		if err := f(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// readDumped reads a line.
func readDumped(line []byte) (d dumped, err error) {
	err = json.Unmarshal(latin1(line), &d)
	return d, err
}

// skimDumped reads the numbers of a line alone, where it looks as Kamailio 5.6 to 6.1 write it:
// that takes a tenth of the time, and at an audit nothing else is wanted. (No string of a
// caller's can look like a field: its quotes are escaped.)
func skimDumped(line []byte) (d dumped, err error) {
	const first = `{"h_entry":`
	entry, ok1 := number(line, first)
	id, ok2 := number(line, `,"h_id":`)
	state, ok3 := number(line, `,"state":`)
	timeout, ok4 := number(line, `,"timeout":`)
	if !ok1 || !ok2 || !ok3 || !ok4 || entry > math.MaxUint32 || id > math.MaxUint32 || !bytes.HasPrefix(line, []byte(first)) ||
		!bytes.HasSuffix(line, []byte("}}")) || bytes.Count(line, []byte(`"h_entry":`)) != 1 {
		return readDumped(line)
	}
	return dumped{Entry: uint32(entry), ID: uint32(id), State: int(state), Timeout: timeout}, nil
}

// number returns the number after a field's name.
func number(line []byte, name string) (n int64, ok bool) {
	i := bytes.Index(line, []byte(name))
	if i < 0 {
		return 0, false
	}
	digits := line[i+len(name):]
	end := bytes.IndexByte(digits, ',')
	if end < 1 || end > 18 {
		return 0, false
	}
	for _, c := range digits[:end] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}
