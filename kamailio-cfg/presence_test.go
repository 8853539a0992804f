package kamailiocfg

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const pidf = `<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@example.com"><tuple id="a"><status><basic>closed</basic></status></tuple></presence>`

// TestPresenceServer publishes and watches, over UDP and over TCP.
func TestPresenceServer(t *testing.T) {
	p := run(t, presence, "PRESENCE_MAX_EXPIRES=100")
	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, p.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(bound))
		in := bufio.NewReaderSize(conn, 65536) // a packet has to fit
		watch(t, conn, in, network)
		published := ask(t, conn, in, network, sipRequest("PUBLISH sip:bob@example.com", "<sip:bob@example.com>;tag=1",
			"<sip:bob@example.com>", unique(), 1, "Event: presence\r\nExpires: 600\r\nContent-Type: application/pidf+xml\r\n"), pidf)
		if !strings.Contains(published, "SIP/2.0 200") || !strings.Contains(published, "SIP-ETag:") ||
			!strings.Contains(published, "Expires: 100\r\n") {
			t.Fatalf("%s: PUBLISH: %s", network, published)
		}
		notify := message(t, in, "NOTIFY ")
		if !strings.Contains(notify, "<basic>closed</basic>") {
			t.Errorf("%s: NOTIFY: %s", network, notify)
		}
	}
}

// TestPresenceServerWithTables: a refresh, which has no body, changes nothing for a watcher.
func TestPresenceServerWithTables(t *testing.T) {
	const empty = "/usr/share/kamailio/dbtext/kamailio"
	dir := t.TempDir()
	for _, name := range []string{"version", "presentity", "active_watchers", "watchers", "xcap"} {
		table, err := os.ReadFile(filepath.Join(empty, name))
		if err != nil {
			t.Skipf("no empty tables: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), table, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := run(t, presence, "PRESENCE_DB="+strconv.Quote("text://"+dir))
	conn, err := net.Dial("udp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(bound))
	in := bufio.NewReaderSize(conn, 65536)
	publish := func(body, headers string) string {
		return ask(t, conn, in, "udp", sipRequest("PUBLISH sip:bob@example.com", "<sip:bob@example.com>;tag=1",
			"<sip:bob@example.com>", unique(), 1, "Event: presence\r\nExpires: 600\r\n"+headers), body)
	}
	_, rest, _ := strings.Cut(publish(pidf, "Content-Type: application/pidf+xml\r\n"), "SIP-ETag: ")
	tag, _, _ := strings.Cut(rest, "\r\n")
	if refreshed := publish("", "SIP-If-Match: "+tag+"\r\n"); !strings.HasPrefix(refreshed, "SIP/2.0 200") {
		t.Fatalf("refresh of %q: %s", tag, refreshed)
	}
	if notify := watch(t, conn, in, "udp"); !strings.Contains(notify, "<basic>closed</basic>") {
		t.Errorf("after a refresh: %s", notify)
	}
}

// watch subscribes and returns the first NOTIFY.
func watch(t *testing.T, conn net.Conn, in *bufio.Reader, network string) string {
	t.Helper()
	contact := fmt.Sprintf("Contact: <sip:watcher@%s;transport=%s>\r\n", conn.LocalAddr(), network)
	answer := ask(t, conn, in, network, sipRequest("SUBSCRIBE sip:bob@example.com", "<sip:watcher@example.com>;tag=1",
		"<sip:bob@example.com>", unique(), 1, "Event: presence\r\nExpires: 600\r\nAccept: application/pidf+xml\r\n"+contact), "")
	if !strings.HasPrefix(answer, "SIP/2.0 20") {
		t.Fatalf("%s: SUBSCRIBE: %s", network, answer)
	}
	return message(t, in, "NOTIFY ")
}

// ask sends a request and returns the final response.
func ask(t *testing.T, conn net.Conn, in *bufio.Reader, network, request, body string) string {
	t.Helper()
	request = strings.NewReplacer("HERE", conn.LocalAddr().String(), "SIP/2.0/UDP", "SIP/2.0/"+strings.ToUpper(network),
		"Content-Length: 0", fmt.Sprintf("Content-Length: %d", len(body))).Replace(request) + body
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	return message(t, in, "SIP/2.0 ")
}

// message reads the next message that begins so.
func message(t *testing.T, in *bufio.Reader, begin string) string {
	t.Helper()
	for {
		var head strings.Builder
		length := 0
		for {
			l, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("no message that begins with %q: %v", begin, err)
			}
			head.WriteString(l)
			fmt.Sscanf(strings.ToLower(l), "content-length: %d", &length)
			if l == "\r\n" {
				break
			}
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(head.String(), begin) {
			return head.String() + string(body)
		}
	}
}
