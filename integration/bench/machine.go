package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// surroundings tells of the machine and of what ran on it, a line each.
func surroundings(busylamp string) []string {
	return []string{
		time.Now().Format("2006-01-02") + ", " + said(busylamp, "version") + ", commit " + commit(),
		fmt.Sprintf("%d cores of %s, %s of memory, Linux %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memory(), said("uname", "-r")),
		strings.TrimPrefix(said("kamailio", "-v"), "version: ") + "; " + said("sipp", "-v") + "; " + runtime.Version(),
		"state on " + fileSystem(os.TempDir()) + "; proxy, phones (sipp), presence servers and busylamp all on this machine, over loopback",
	}
}

// said returns the first line that a program prints, whatever its exit status.
func said(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if line = strings.Trim(line, " .\r\n"); line != "" {
			return line
		}
	}
	return "unknown"
}

func commit() string {
	c := said("git", "rev-parse", "--short", "HEAD")
	if out, err := exec.Command("git", "status", "--porcelain").Output(); err == nil && len(bytes.TrimSpace(out)) > 0 {
		c += " and changes"
	}
	return c
}

// field returns a value of a file of lines such as "name : value".
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem returns what a folder lies on, such as ext4.
func fileSystem(folder string) string { return said("stat", "-f", "-c", "%T", folder) }

func memory() string {
	var kib float64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// writeProfiles renders the CPU profiles NAME.pprof of a folder as text, NAME.txt, and returns
// the names.
func writeProfiles(from, to string) (names []string, err error) {
	profiles, err := filepath.Glob(filepath.Join(from, "*.pprof"))
	if err != nil || len(profiles) == 0 {
		return nil, err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return nil, err
	}
	for _, file := range profiles {
		if info, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			continue
		}
		var told bytes.Buffer
		cmd := exec.Command("go", "tool", "pprof", "-top", "-nodecount=60", file)
		cmd.Stderr = &told
		out, err := cmd.Output()
		if err != nil {
			return names, fmt.Errorf("go tool pprof %s: %w: %.300s", filepath.Base(file), err, told.String())
		}
		name := strings.TrimSuffix(filepath.Base(file), ".pprof") + ".txt"
		if err := os.WriteFile(filepath.Join(to, name), out, 0o644); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}
