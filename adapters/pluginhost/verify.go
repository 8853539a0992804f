package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// refusal is an error that trying again does not mend: somebody has to do something.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// absence is the error of a file that is not there. An installation may be under way, or a file
// system be mounted later, so that it is looked for without end.
type absence struct{ error }

func (a absence) Unwrap() error { return a.error }

// failure is what the system says of a file: a refusal where that is about its mode, its owner,
// its links or what it is. The rest, such as too many open files, a disk that fails or a file
// that somebody writes to, may be over at the next try.
func failure(err error) error {
	var no syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absence{err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOEXEC), !errors.As(err, &no):
		return refusal{err}
	}
	return err
}

// binary is a plugin's file, open: what is run is this file and no other that was put in
// its place meanwhile.
type binary struct {
	file   *os.File
	path   string // with no symbolic link in it
	digest string // sha256, hex
	info   fs.FileInfo
}

// verify opens and examines what a configuration names. Its errors are as of [failure].
func verify(cfg Config) (*binary, error) {
	path, err := resolve(cfg.Path)
	if err != nil {
		return nil, err
	}
	b, err := openBinary(path)
	if err != nil {
		return nil, err
	}
	if err = b.trusted(); err == nil {
		err = b.pinned(cfg)
	}
	if err != nil {
		b.file.Close()
		return nil, err
	}
	return b, nil
}

// resolve follows symbolic links as long as they stay in the plugin's directory: a name
// without a version that points to one with it is fine, one that points elsewhere would
// make any program of the system a plugin.
func resolve(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", refuse("%s is not an absolute path: write plugins.dir with a leading /", path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", failure(fmt.Errorf("plugins.dir: %w", err))
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", absence{fmt.Errorf("%s does not exist: put the plugin there, or correct plugins.dir and the source's plugin", path)}
	case err != nil:
		return "", failure(err)
	case filepath.Dir(real) != dir:
		return "", refuse("%s is a symbolic link to %s, out of its directory: put the plugin itself there", path, real)
	}
	return real, nil
}

// openBinary opens a regular file and takes its digest.
func openBinary(path string) (*binary, error) {
	// Without O_NONBLOCK a FIFO would hold us up before it can be looked at.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, failure(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = refuse("%s is not a regular file (%s): a plugin is a program", path, info.Mode().Type())
	case info.Size() > maxBinary:
		err = refuse("%s has %d bytes: a plugin can have at most %d", path, info.Size(), maxBinary)
	}
	sum := sha256.New()
	if err == nil {
		_, err = io.Copy(sum, io.LimitReader(f, maxBinary))
	}
	if err != nil {
		f.Close()
		return nil, failure(err)
	}
	return &binary{file: f, path: path, digest: hex.EncodeToString(sum.Sum(nil)), info: info}, nil
}

// trusted examines who could have written the file, as sshd's StrictModes does: root and
// the sidecar's own user alone, down from the root directory.
func (b *binary) trusted() error {
	mode := b.info.Mode()
	switch {
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return refuse("%s is set-user-ID or set-group-ID: run chmod ug-s on it", b.path)
	case mode&0o111 == 0:
		return refuse("%s is not executable: run chmod 755 on it", b.path)
	}
	if err := owned(b.path, b.info); err != nil {
		return err
	}
	if mode&0o022 != 0 {
		return refuse("%s can be written by %s (mode %#o): run chmod go-w on it", b.path, writers(mode), mode.Perm())
	}
	for dir, own := filepath.Dir(b.path), true; ; dir, own = filepath.Dir(dir), false {
		info, err := os.Lstat(dir)
		if err != nil {
			return failure(err)
		}
		if err := owned(dir, info); err != nil {
			return err
		}
		// In a sticky directory such as /tmp strangers cannot replace what is root's or ours;
		// but they could add to the plugins' own.
		if mode := info.Mode(); mode&0o022 != 0 && (own || mode&fs.ModeSticky == 0) {
			return refuse("the directory %s can be written by %s (mode %#o), who could replace the plugin: run chmod go-w on it, or put plugins.dir elsewhere",
				dir, writers(mode), mode.Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// owned tells whether a file or directory belongs to root or us.
func owned(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return refuse("%s: its owner cannot be told on this system", path)
	}
	if us := os.Geteuid(); st.Uid != 0 && int(st.Uid) != us {
		return refuse("%s belongs to user %d: it must belong to root, or to the user %d that busylamp runs as: run chown root on it", path, st.Uid, us)
	}
	return nil
}

func writers(mode fs.FileMode) string {
	if mode&0o002 != 0 {
		return "everybody"
	}
	return "its group"
}

// pinned compares the file with the configuration.
func (b *binary) pinned(cfg Config) error {
	switch {
	case strings.EqualFold(b.digest, cfg.SHA256):
		return nil
	case cfg.SHA256 != "":
		return refuse("sha256 of %s is %s, the configuration pins %s: if you have replaced it on purpose, run busylamp plugin pin %s",
			cfg.Path, b.digest, cfg.SHA256, cfg.Name)
	case !cfg.AllowUnpinned:
		return refuse("%s is not pinned: run busylamp plugin pin %s, which writes its sha256 into the configuration (or set plugins.allow_unpinned: true)",
			cfg.Path, cfg.Name)
	}
	return nil
}

// unchanged tells whether the file is what it was when its digest was taken. It is asked
// after the start: from then on the system keeps a running program from being written. That
// finds a copy that was under way. Somebody who forges the time as well has to be root or us,
// and needs no plugin.
func (b *binary) unchanged() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != b.info.Size() || !info.ModTime().Equal(b.info.ModTime()) {
		return fmt.Errorf("%s was written to while it was started: replace a plugin by renaming the new file over it", b.path)
	}
	return nil
}

// Digest returns the sha256 of a plugin's file, in hex: what `busylamp plugin pin` writes.
func Digest(path string) (string, error) {
	path, err := resolve(path)
	if err != nil {
		return "", err
	}
	b, err := openBinary(path)
	if err != nil {
		return "", err
	}
	b.file.Close()
	return b.digest, nil
}

// Verify examines the file of a configuration as a start does, and runs nothing.
func Verify(cfg Config) error {
	b, err := verify(cfg)
	if err == nil {
		b.file.Close()
	}
	return err
}
