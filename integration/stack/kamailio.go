package stack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startPatience bounds the start of a part.
const startPatience = time.Minute

// KamailioOptions change how a Kamailio of kamailio-cfg/sample is started.
type KamailioOptions struct {
	Port     int // SIP, UDP and TCP; 0: any free one
	Evapi    int // the proxy's evapi; 0: any free one
	Children int // UDP workers; 0: as the sample says
	// Shared and Private are -m and -M, in megabytes; 0: Kamailio's own (64 and 8).
	Shared, Private int
	Allocator       string // -x, of the shared memory; "": Kamailio's own
	// MaxExpires cuts publications and subscriptions at the presence server; 0: as the
	// sample says.
	MaxExpires time.Duration
	Defines    []string // more of -A, NAME or NAME=value
	Tables     bool     // the presence server keeps publications in text files, not in memory alone
	Dialogs    bool     // the proxy keeps its dialogs in a database, and has them again after a restart
	Modules    string   // lines for the configuration's beginning, such as loadmodule
	Settings   string   // lines for its end, such as modparam(...)
	Domain     string   // that a PBX serves; "": [PBXDomain]
	Lists      []List   // that a PBX answers for
	Config     string   // file of the proxy's configuration, in place of the sample: it takes the same defines
}

// Kamailio is a running Kamailio.
type Kamailio struct {
	*Process
	Addr  string // SIP
	Evapi string // of the proxy
	RPC   string // of the proxy: an http: URL

	stack   *Stack
	options KamailioOptions
	role    string
	ctl     string
	dialogs string // the database's file, if it has one
	tables  string // a PBX's folder of tables
}

// Domain is the domain that the sample proxy serves.
const Domain = "example.com"

// Proxy starts kamailio-cfg/sample/kamailio.cfg and waits until it answers.
func (s *Stack) Proxy(ctx context.Context, o KamailioOptions) (*Kamailio, error) {
	return s.kamailio(ctx, "proxy", o)
}

// Presence starts kamailio-cfg/sample/presence.cfg and waits
// until it answers.
func (s *Stack) Presence(ctx context.Context, o KamailioOptions) (*Kamailio, error) {
	return s.kamailio(ctx, "presence", o)
}

func (s *Stack) kamailio(ctx context.Context, role string, o KamailioOptions) (*Kamailio, error) {
	if err := ports(&o.Port, &o.Evapi); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	k := &Kamailio{Addr: Addr(o.Port), Evapi: Addr(o.Evapi), RPC: "http://" + Addr(o.Port) + "/RPC",
		stack: s, options: o, role: role, ctl: "unix:" + s.file(role+".ctl")}
	if o.Dialogs {
		var err error
		if k.dialogs, err = s.dialogs(); err != nil {
			return nil, err
		}
	}
	if role == rolePBX {
		var err error
		if k.tables, err = s.pbxTables(o.Lists); err != nil {
			return nil, err
		}
	}
	return k, k.start(ctx)
}

// Restart starts the Kamailio again, on its old ports, after it has ended.
func (k *Kamailio) Restart(ctx context.Context) error {
	// Its sockets may take a moment to go.
	err := k.stack.Wait(ctx, startPatience, k.role+"'s ports", func() error {
		return errors.Join(CheckPort(k.options.Port), CheckPort(k.options.Evapi))
	})
	if err != nil {
		return err
	}
	return k.start(ctx)
}

func (k *Kamailio) start(ctx context.Context) error {
	path, err := exec.LookPath(kamailio())
	if err != nil {
		return Tools(kamailio())
	}
	config, err := k.config()
	if err != nil {
		return err
	}
	args := []string{"-DD", "-E", "-f", config, "-Y", k.stack.Dir, "-w", k.stack.Dir}
	if k.options.Shared > 0 {
		args = append(args, "-m", strconv.Itoa(k.options.Shared))
	}
	if k.options.Allocator != "" {
		args = append(args, "-x", k.options.Allocator)
	}
	if k.options.Private > 0 {
		args = append(args, "-M", strconv.Itoa(k.options.Private))
	}
	defines, err := k.defines()
	if err != nil {
		return err
	}
	for _, d := range append(defines, k.options.Defines...) {
		args = append(args, "-A", d)
	}
	// The death signal is one that lets Kamailio end its own children.
	if k.Process, err = k.stack.start(program{name: k.role, path: path, args: args, death: syscall.SIGTERM}); err != nil {
		return err
	}
	return k.stack.Wait(ctx, startPatience, "the "+k.role+" at "+k.Addr, k.ping)
}

// kamailio is the program: the system's, or the one that BUSYLAMP_KAMAILIO names.
func kamailio() string {
	if other := os.Getenv("BUSYLAMP_KAMAILIO"); other != "" {
		return other
	}
	return "kamailio"
}

// config returns the path of the configuration: the sample, or one that includes it.
func (k *Kamailio) config() (string, error) {
	if k.options.Config != "" {
		return k.options.Config, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	sample := filepath.Join(root, map[string]string{"proxy": "kamailio-cfg/sample/kamailio.cfg",
		"presence": "kamailio-cfg/sample/presence.cfg", rolePBX: "integration/stack/testdata/pbx.cfg"}[k.role])
	settings := k.options.Settings
	if k.options.Dialogs {
		settings += k.dialogSettings()
	}
	if settings+k.options.Modules == "" {
		return sample, nil
	}
	file := k.stack.file(k.role + ".cfg")
	text := fmt.Sprintf("#!KAMAILIO\n%s\ninclude_file %q\n%s\n", k.options.Modules, sample, settings)
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func (k *Kamailio) defines() ([]string, error) {
	o := k.options
	upper := strings.ToUpper(k.role)
	d := []string{fmt.Sprintf("%s_PORT=%d", upper, o.Port)}
	if o.Children > 0 {
		d = append(d, fmt.Sprintf("%s_CHILDREN=%d", upper, o.Children))
	}
	if k.role == rolePBX {
		return append(d, k.pbxDefines()...), nil
	}
	if k.role == "proxy" {
		return append(d, "PROXY_CTL="+strconv.Quote(k.ctl), "BUSYLAMP_EVAPI="+strconv.Quote(k.Evapi)), nil
	}
	if o.MaxExpires > 0 {
		d = append(d, fmt.Sprintf("PRESENCE_MAX_EXPIRES=%d", int(o.MaxExpires.Seconds())))
	}
	if !o.Tables {
		return d, nil
	}
	dir, err := k.stack.tables()
	return append(d, "PRESENCE_DB="+strconv.Quote("text://"+dir)), err
}

// ping asks by OPTIONS whether it answers.
func (k *Kamailio) ping() error {
	var a agent
	if err := a.open(k.Addr, func(*message, netip.AddrPort) {}, nil); err != nil {
		return err
	}
	defer a.socket.close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	m, err := a.do(ctx, request{method: "OPTIONS", uri: "sip:" + k.Addr, branch: newBranch(), cseq: 1,
		from: "<sip:ping@" + Domain + ">;tag=1", to: "<sip:" + k.Addr + ">", callID: newBranch()})
	if err != nil {
		return err
	}
	if m.status() != 200 {
		return errors.New(m.start)
	}
	return nil
}

// Kamcmd runs an RPC command by the proxy's control socket and returns what it says.
func (k *Kamailio) Kamcmd(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "kamcmd", append([]string{"-s", k.ctl}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kamcmd %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Dialogs returns how many dialogs the proxy has that are not over.
func (k *Kamailio) Dialogs() (int, error) { return k.number("all", "dlg.stats_active") }

// SharedFree returns how many bytes of shared memory are free.
func (k *Kamailio) SharedFree() (int, error) { return k.number("free", "core.shmmem") }

// Waiting returns how many events wait in the queue of busylamp.cfg.
func (k *Kamailio) Waiting() (int, error) { return k.number("size", "mqueue.get_size", "busylamp") }

// number returns a field of what an RPC command says.
func (k *Kamailio) number(field string, args ...string) (int, error) {
	out, err := k.Kamcmd(args...)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == field {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("kamcmd %s says: %.200s", strings.Join(args, " "), out)
}

// Drops returns how many datagrams the kernel has thrown away because the Kamailio did not
// read them in time.
func (k *Kamailio) Drops() (int, error) {
	text, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0, err
	}
	local := fmt.Sprintf("0100007F:%04X", k.options.Port)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 12 && f[1] == local {
			return strconv.Atoi(f[len(f)-1])
		}
	}
	return 0, fmt.Errorf("/proc/net/udp has no %s", local)
}
