package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Standing is what a responder has seen since its last reset.
type Standing struct {
	Counts
	Live  int // publications
	Lit   int // those whose document says: in a call
	Users int // who were ever said to be in a call
	// From the 200 OK at the proxy to the PUBLISH at the responder, by users; with -tap alone.
	Times []time.Duration
	None  int // users who had a 200 OK and no PUBLISH
}

func init() { registerHelper("responder", respond) }

// respond is a presence server that answers PUBLISH as RFC 3903 section 6 says, in a process of
// its own, by few system calls. Standard input tells it to "reset" or to "report" a [Standing];
// its end ends it.
func respond(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("responder", flag.ContinueOnError)
	port := flags.Int("port", 0, "UDP port")
	proxy := flags.Int("proxy", 0, "with -phones: note when a 200 OK reaches this port")
	phones := flags.Int("phones", 0, "port that the phones answer from")
	if err := flags.Parse(args); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: *port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("UDP port %d: %w", *port, err)
	}
	r := &responder{registry: newRegistry()}
	d, err := newDatagrams(fd)
	if err != nil {
		return err
	}
	go r.serve(d)
	if *phones != 0 {
		d, err := tap(*proxy, *phones)
		if err != nil {
			return err
		}
		go r.watch(d)
	}
	enc := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "reset":
			r.reset()
			err = enc.Encode(Standing{})
		case "report":
			err = enc.Encode(r.report())
		default:
			err = fmt.Errorf("a responder knows no %q", in.Text())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// responder is a registry that two threads use, and what it is asked by standard input.
type responder struct {
	mu sync.Mutex
	*registry
}

func (r *responder) serve(d *datagrams) {
	for {
		n, err := d.read()
		if err != nil {
			continue // an ICMP error of a datagram that was sent
		}
		r.mu.Lock()
		for i := range n {
			data, at := d.datagram(i)
			m, ok := parseRequest(data)
			if !ok {
				r.Bad++
				continue
			}
			status, tag := r.publish(m, at)
			d.answer(i, func(room []byte) []byte { return appendResponse(room, m, status, tag) })
		}
		r.mu.Unlock()
		d.flush()
	}
}

// watch notes the 200 OKs that a tap sees.
func (r *responder) watch(d *datagrams) {
	for {
		n, err := d.read()
		if err != nil {
			continue
		}
		r.mu.Lock()
		for i := range n {
			data, at := d.datagram(i)
			caller, callee, ok := answeredUsers(data[min(len(data), ipUDP):])
			if ok && r.users[caller].answered == 0 {
				r.users[caller].answered, r.users[callee].answered = at, at
			}
		}
		r.mu.Unlock()
	}
}

func (r *responder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.users)
	r.all, r.Counts = r.all[:1], Counts{}
}

func (r *responder) report() (s Standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Counts = r.Counts
	s.Live, s.Lit = r.live(time.Now().UnixNano())
	s.Times, s.None = r.latencies()
	s.Users = r.confirmed()
	return s
}

// Responder is such a process, seen from outside.
type Responder struct {
	Port int

	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// startResponder starts one; with phones it watches what they tell the proxy.
func startResponder(ctx context.Context, port, proxy, phones int) (*Responder, error) {
	cmd, err := Helper(ctx, "responder", "-port", fmt.Sprint(port), "-proxy", fmt.Sprint(proxy), "-phones", fmt.Sprint(phones))
	if err != nil {
		return nil, err
	}
	r := &Responder{Port: port, cmd: cmd}
	if r.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = json.NewDecoder(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return r, r.Reset() // it answers: so it serves
}

// Reset has it forget everything.
func (r *Responder) Reset() error {
	_, err := r.ask("reset")
	return err
}

// Report asks it what it has seen.
func (r *Responder) Report() (Standing, error) { return r.ask("report") }

func (r *Responder) ask(what string) (s Standing, err error) {
	if _, err = fmt.Fprintln(r.in, what); err == nil {
		err = r.out.Decode(&s)
	}
	if err != nil {
		err = fmt.Errorf("responder at port %d: %w (does another program have the port; has this user CAP_NET_RAW?)", r.Port, err)
	}
	return s, err
}

// Close ends it.
func (r *Responder) Close() error { return errors.Join(r.in.Close(), r.cmd.Wait()) }
