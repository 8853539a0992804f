package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gate stands between pebble and the file system. Pebble (v2.1) has no answer to a write
// that fails: it ends the process, panics in goroutines of its own, or waits for ever, since
// what is on the disk then is not what it has in memory. So it never hears of one. The first
// failure shuts the gate, and from then on everything that would change the disk is dropped
// and called a success. The disk stays as a cut of power at that moment would have left it,
// which is what pebble recovers from; the database behind a shut gate is closed, and opened
// again when there is hope.
type gate struct {
	vfs.FS
	cause atomic.Pointer[error]
	shut  chan struct{} // closed with the first failure
}

func newGate(under vfs.FS) *gate { return &gate{FS: under, shut: make(chan struct{})} }

// writeError is a change of the disk that failed: what is on it is sound.
type writeError struct {
	op, name string
	error
}

func (e writeError) Error() string { return fmt.Sprintf("%s %s: %v", e.op, e.name, cause(e.error)) }
func (e writeError) Unwrap() error { return e.error }

// cause strips the operation and the path, which our own error says.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// fail shuts the gate. Only the first failure counts; those after it follow from it.
func (g *gate) fail(err error) {
	if g.cause.CompareAndSwap(nil, &err) {
		close(g.shut)
	}
}

// err returns why the gate is shut, nil while it is open.
func (g *gate) err() error {
	if err := g.cause.Load(); err != nil {
		return *err
	}
	return nil
}

// change changes the disk by f, if the gate is open.
func (g *gate) change(op, name string, f func() error) error {
	if g.err() != nil {
		return nil
	}
	if err := f(); err != nil {
		g.fail(writeError{op, name, err})
	}
	return nil
}

// file opens a file to write to by f; behind a shut gate it is one that holds nothing.
func (g *gate) file(op, name string, f func() (vfs.File, error)) (vfs.File, error) {
	if g.err() == nil {
		under, err := f()
		if err == nil {
			return &gatedFile{File: under, gate: g, name: name}, nil
		}
		g.fail(writeError{op, name, err})
	}
	empty := vfs.NewMem()
	under, err := empty.Create("empty", vfs.WriteCategoryUnspecified)
	return &gatedFile{File: under, gate: g, name: name}, err
}

func (g *gate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file("create", name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *gate) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.file("open", name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *gate) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file("reuse", from, func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

// OpenDir opens a directory, which pebble does to sync it.
func (g *gate) OpenDir(name string) (vfs.File, error) {
	return g.file("open", name, func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

func (g *gate) Link(from, to string) error {
	return g.change("link", from, func() error { return g.FS.Link(from, to) })
}

func (g *gate) Rename(from, to string) error {
	return g.change("rename", from, func() error { return g.FS.Rename(from, to) })
}

func (g *gate) RemoveAll(name string) error {
	return g.change("remove", name, func() error { return g.FS.RemoveAll(name) })
}

func (g *gate) MkdirAll(name string, perm os.FileMode) error {
	return g.change("mkdir", name, func() error { return g.FS.MkdirAll(name, perm) })
}

// Remove tells pebble of a file that is not there, which it knows how to take.
func (g *gate) Remove(name string) (missing error) {
	_ = g.change("remove", name, func() error {
		err := g.FS.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing, err = err, nil
		}
		return err
	})
	return missing
}

// Unwrap is for pebble's own look at the file system.
func (g *gate) Unwrap() vfs.FS { return g.FS }

// gatedFile is a file that is written to through a gate.
type gatedFile struct {
	vfs.File
	gate *gate
	name string
}

func (f *gatedFile) change(op string, change func() error) error {
	return f.gate.change(op, f.name, change)
}

func (f *gatedFile) Write(p []byte) (int, error) {
	return len(p), f.change("write", func() error { _, err := f.File.Write(p); return err })
}

func (f *gatedFile) WriteAt(p []byte, at int64) (int, error) {
	return len(p), f.change("write", func() error { _, err := f.File.WriteAt(p, at); return err })
}

func (f *gatedFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *gatedFile) SyncData() error { return f.sync(f.File.SyncData) }

// sync is a change whose time counts.
func (f *gatedFile) sync(sync func() error) error {
	began := time.Now()
	defer func() {
		syncTime.Add(int64(time.Since(began)))
		syncs.Add(1)
	}()
	return f.change("sync", sync)
}

var syncs, syncTime atomic.Int64

// Syncs returns how often this process has had disks sync, in all stores, and how long that
// took.
func Syncs() (n int64, took time.Duration) { return syncs.Load(), time.Duration(syncTime.Load()) }

func (f *gatedFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Preallocate may fail without harm: the write that needs the room says so.
func (f *gatedFile) Preallocate(at, length int64) error {
	if f.gate.err() == nil {
		_ = f.File.Preallocate(at, length)
	}
	return nil
}

// Close closes the file even behind a shut gate.
func (f *gatedFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.gate.fail(writeError{"close", f.name, err})
	}
	return nil
}
