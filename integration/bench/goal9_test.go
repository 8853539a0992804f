package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestIntakeFrames: what the sender says amounts to what usersWrong expects.
func TestIntakeFrames(t *testing.T) {
	const calls, per = intakeUp + 2*intakeStays, 7
	frames, last := intakeFrames(calls, per)
	up, seq := map[string]bool{}, 0
	for i, f := range frames {
		length, rest, _ := strings.Cut(string(f), ":")
		payload := strings.TrimSuffix(rest, ",")
		lines := strings.Split(payload, "\n")
		if length != fmt.Sprint(len(payload)) || lines[0] != "busylamp/1 "+standinEpoch || len(lines)-1 != per && i < len(frames)-1 {
			t.Fatalf("frame %d: %q", i, f)
		}
		for _, line := range lines[1:] {
			fields := strings.Fields(line)
			if seq++; fields[1] != fmt.Sprint(seq) {
				t.Fatalf("%q is number %d", line, seq)
			}
			switch dialog := fields[2]; {
			case fields[0] == "c" && len(fields) == 6 && !up[dialog]:
				up[dialog] = true
			case fields[0] == "x" && len(fields) == 3 && up[dialog]:
				delete(up, dialog)
			default:
				t.Fatalf("%q", line)
			}
			if len(up) > intakeUp+calls/intakeStays+1 {
				t.Fatalf("%d calls are up", len(up))
			}
		}
	}
	if seq != last || seq != 2*calls-len(staying(calls)) || len(up) != len(staying(calls)) {
		t.Errorf("%d events, the last is %d; %d calls stay", seq, last, len(up))
	}
	for _, call := range staying(calls) {
		if !up[fmt.Sprintf("%d:%d", call%4096, call)] {
			t.Errorf("call %d has ended", call)
		}
	}
}

// TestPace: all frames go, once and in their order.
func TestPace(t *testing.T) {
	from, to := net.Pipe()
	var frames [][]byte
	for i := range 1000 {
		frames = append(frames, evapiFrame(heartbeat(i)))
	}
	sent := make(chan error, 1)
	go func() {
		sent <- pace(from, frames, 1_000_000)
		from.Close()
	}()
	to.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(to)
	if err != nil || !bytes.Equal(got, bytes.Join(frames, nil)) || <-sent != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
