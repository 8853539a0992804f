package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/busylamp/busylamp"
)

// A journal takes each Commit by one write and no fsync: what the system has been given
// outlives a kill of the process, and only a cut of power asks for more. Ten times a second
// what it holds goes to the database, which does sync.
//
// The file JOURNAL begins with a line that names the format and 8 bytes of salt. A batch
// follows on the other: 4 bytes of length, 8 of number, the CRC-32C of salt, number and
// changes, and the changes. A length of zero is the end. A change is the lengths of its key
// and its value (2 bytes each), the key and the value as the database has them; no value
// means that the record is deleted. All numbers are big-endian.
//
// The database holds, under markKey, the salt of its journal and the number of the last
// batch that is in it. So batches count whose number is above that one, ascending by one, in
// the file whose salt it is; where in the file they stand does not matter. When all of them
// are in the database the next is written over the first, and what is left behind it from
// before has a lower number. The salt in the checksum is for those who choose what is in a
// URI: they do not know it.
const (
	journalFile  = "JOURNAL"
	journalMagic = "busylamp journal 1\n"
	journalHead  = len(journalMagic) + 8
	batchHead    = 4 + 8 + 4
	changeHead   = 2 + 2

	// maxJournal bounds the batches in a journal, in bytes. What is beyond goes to the
	// database at once, all of it.
	maxJournal = 1 << 19
)

// markKey is the database's own, see journal.
var markKey = []byte("\x00journal")

// mark is what the database says of its journal.
type mark struct{ salt, number uint64 }

func newMark() mark {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return mark{salt: binary.BigEndian.Uint64(b[:])}
}

func (m mark) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, m.salt), m.number)
}

// journal is what has been promised and is not in the database yet.
type journal struct {
	fs     vfs.FS
	name   string
	file   vfs.File // nil until it is needed
	mark   mark     // the file's salt, and the number of the last batch
	kept   []byte   // the batches that the database has not; the file's, but for its head
	read   bool     // what an earlier life left in the file is in kept
	broken bool     // the file could not be written, which is logged once
}

// add appends a batch to what is kept, and returns where it begins.
func (j *journal) add(ops []busylamp.StoreOp, now moment) (from int) {
	from = len(j.kept)
	j.mark.number++
	b := binary.BigEndian.AppendUint32(j.kept, 0)
	b = binary.BigEndian.AppendUint64(b, j.mark.number)
	b = binary.BigEndian.AppendUint32(b, 0)
	for i := range ops {
		b = appendChange(b, &ops[i], now)
	}
	batch := b[from:]
	binary.BigEndian.PutUint32(batch, uint32(len(batch)-batchHead))
	binary.BigEndian.PutUint32(batch[12:], j.mark.checksum(batch[4:12], batch[batchHead:]))
	j.kept = b
	return from
}

// cut takes back the batch that begins there, the last one.
func (j *journal) cut(from int) {
	j.kept = j.kept[:from]
	j.mark.number--
}

// settled forgets what is kept: the database has it.
func (j *journal) settled() {
	if j.kept = j.kept[:0]; cap(j.kept) > 2*maxJournal {
		j.kept = nil
	}
}

func appendChange(b []byte, op *busylamp.StoreOp, now moment) []byte {
	from := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendKey(b, &op.Record)
	key := b[from+changeHead:]
	if !op.Delete && op.Record.Expires >= time.Millisecond {
		b = appendValue(b, key, &op.Record, now)
	}
	binary.BigEndian.PutUint16(b[from:], uint16(len(key)))
	binary.BigEndian.PutUint16(b[from+2:], uint16(len(b)-from-changeHead-len(key)))
	return b
}

func (m mark) checksum(number, changes []byte) uint32 {
	var salt [8]byte
	binary.BigEndian.PutUint64(salt[:], m.salt)
	sum := crc32.Update(crc32.Checksum(salt[:], castagnoli), castagnoli, number)
	return crc32.Update(sum, castagnoli, changes)
}

// write writes the batch that begins at from, and after it the end.
func (j *journal) write(from int) error {
	if j.file == nil {
		if err := j.create(); err != nil {
			return err
		}
	}
	b := append(j.kept, 0, 0, 0, 0)
	j.kept = b[:len(b)-4]
	_, err := j.file.WriteAt(b[from:], int64(journalHead+from))
	return err
}

// create puts a new file, of another inode, in the place of what is there: whoever had the
// store before us writes to a file that has no name any more.
func (j *journal) create() error {
	j.close()
	if info, err := j.fs.Stat(j.name); err == nil && !info.Mode().IsRegular() {
		if err := j.fs.RemoveAll(j.name); err != nil {
			return err
		}
	}
	f, err := j.fs.Create(j.name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint64([]byte(journalMagic), j.mark.salt)
	if _, err := f.WriteAt(binary.BigEndian.AppendUint32(head, 0), 0); err != nil {
		_ = f.Close()
		return err
	}
	j.file = f
	return nil
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
}

// left reads what an earlier life left in the file that the database with that mark has not.
// Neither that nor an error means nothing. With a damaged file it returns both what is
// before the damage and what is wrong.
func (j *journal) left(m mark) ([]byte, error) {
	info, err := j.fs.Stat(j.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	f, err := j.fs.Open(j.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(journalHead)+maxJournal+4))
	if err != nil {
		return nil, err
	}
	return m.after(data)
}

// after returns the part of a journal's file that is not in the database with this mark.
func (m mark) after(data []byte) ([]byte, error) {
	if len(data) < journalHead || string(data[:len(journalMagic)]) != journalMagic {
		return nil, errors.New("not a journal")
	}
	if binary.BigEndian.Uint64(data[len(journalMagic):]) != m.salt {
		return nil, nil // of another life, or another database: what was in it was settled or is lost
	}
	data = data[journalHead:]
	from, at, last := -1, 0, m.number
	for {
		size, number, err := m.batch(data[at:])
		if size > 0 && from >= 0 && number != last+1 {
			err = fmt.Errorf("batch %d follows batch %d", number, last)
		}
		if (err != nil || size == 0 || number > m.number) && from < 0 {
			from = at
		}
		if err != nil {
			return data[from:at:at], fmt.Errorf("at byte %d: %w", journalHead+at, err)
		}
		if size == 0 {
			return data[from:at:at], nil
		}
		last = number
		at += size
	}
}

// batch returns the size and the number of the batch that data begins with; a size of zero
// is the end.
func (m mark) batch(data []byte) (size int, number uint64, err error) {
	if len(data) < 4 {
		return 0, 0, errCut
	}
	changes := int64(binary.BigEndian.Uint32(data))
	if changes == 0 {
		return 0, 0, nil
	}
	if changes > int64(len(data)-batchHead) {
		return 0, 0, errCut
	}
	size = batchHead + int(changes)
	if binary.BigEndian.Uint32(data[12:]) != m.checksum(data[4:12], data[batchHead:size]) {
		return 0, 0, errors.New("the checksum does not match")
	}
	for b := data[batchHead:size]; len(b) > 0; {
		key, _, rest, ok := cutChange(b)
		if !ok || key[0] == 0 {
			return 0, 0, errors.New("a batch that is none")
		}
		b = rest
	}
	return size, binary.BigEndian.Uint64(data[4:]), nil
}

// cutChange takes the first change off; an empty value deletes.
func cutChange(b []byte) (key, value, rest []byte, ok bool) {
	if len(b) < changeHead {
		return nil, nil, nil, false
	}
	k, v := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	b = b[changeHead:]
	if k == 0 || len(b) < k+v {
		return nil, nil, nil, false
	}
	return b[:k], b[k : k+v], b[k+v:], true
}

// changes calls f for each change in batches that are whole, in order.
func changes(batches []byte, f func(key, value []byte) error) error {
	for len(batches) > 0 {
		size := batchHead + int(binary.BigEndian.Uint32(batches))
		for b := batches[batchHead:size]; len(b) > 0; {
			key, value, rest, _ := cutChange(b)
			if err := f(key, value); err != nil {
				return err
			}
			b = rest
		}
		batches = batches[size:]
	}
	return nil
}
