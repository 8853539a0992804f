package kamailiocfg

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// answerer registers a user whose one device answers every call at once. It copies header
// fields byte by byte, which sipp does not when they are odd.
func (p *proxy) answerer(t *testing.T, user string) {
	t.Helper()
	answerOn(t, p.register(t, user))
}

// answerOn is a device that answers every call at once.
func answerOn(t *testing.T, port int) {
	t.Helper()
	conn, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if request := string(buf[:n]); !strings.HasPrefix(request, "ACK") {
				conn.WriteTo([]byte(ok(request, port)), from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

// ok writes the 200 to a request.
func ok(request string, port int) string {
	b := "SIP/2.0 200 OK\r\n"
	for h := range strings.SplitSeq(request, "\r\n") {
		name, _, _ := strings.Cut(h, ":")
		switch name {
		case "Via", "Record-Route", "From", "Call-ID", "CSeq":
			b += h + "\r\n"
		case "To":
			if !strings.Contains(h, ";tag=") {
				h += ";tag=answerer"
			}
			b += h + "\r\n"
		}
	}
	return b + fmt.Sprintf("Contact: <sip:127.0.0.1:%d>\r\nContent-Length: 0\r\n\r\n", port)
}

// oddCall is a call whose header fields are written as they are.
type oddCall struct {
	uri, from, to, callID string
}

// run calls and hangs up. It returns the first final status, 0 for none.
func (o oddCall) run(t *testing.T, p *proxy) int {
	t.Helper()
	conn, err := net.Dial("udp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	here := conn.LocalAddr().String()
	send := func(line, to string, cseq int, headers string) {
		r := sipRequest(line, o.from, to, o.callID, cseq, headers)
		if _, err := conn.Write([]byte(strings.Replace(r, "HERE", here, 1))); err != nil {
			t.Fatal(err)
		}
	}
	send("INVITE "+o.uri, o.to, 1, "Contact: <sip:"+here+">\r\n")
	status, answer := final(conn)
	if status != 200 {
		return status
	}
	to, routes, contact := o.to, []string{}, ""
	for h := range strings.SplitSeq(answer, "\r\n") {
		name, value, _ := strings.Cut(h, ": ")
		switch name {
		case "To":
			to = value
		case "Record-Route":
			routes = append(routes, strings.Split(value, ",")...)
		case "Contact":
			contact = strings.Trim(value, "<>")
		}
	}
	slices.Reverse(routes)
	route := ""
	for _, r := range routes {
		route += "Route: " + r + "\r\n"
	}
	send("ACK "+contact, to, 1, route)
	send("BYE "+contact, to, 2, route)
	if bye, _ := final(conn); bye != 200 {
		t.Errorf("BYE: status %d", bye)
	}
	return status
}

// final reads up to the first final response.
func final(conn net.Conn) (int, string) {
	buf := make([]byte, 65536)
	conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, ""
		}
		var status int
		fmt.Sscanf(string(buf[:n]), "SIP/2.0 %d", &status)
		if status >= 200 {
			return status, string(buf[:n])
		}
	}
}
