package kamailio

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// callerScenario calls, holds, and hangs up; its ACK and BYE carry Route.
const callerScenario = `<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="caller">
<send retrans="500"><![CDATA[

INVITE sip:bob[call_number]@example.com SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:alice[call_number]@example.com>;tag=9fxced76sl-3848276298220188511-[call_number]
To: <sip:bob[call_number]@example.com>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:alice@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200" rrs="true"/>
<send><![CDATA[

ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:alice[call_number]@example.com>;tag=9fxced76sl-3848276298220188511-[call_number]
To: <sip:bob[call_number]@example.com>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause/>
<send retrans="500"><![CDATA[

BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:alice[call_number]@example.com>;tag=9fxced76sl-3848276298220188511-[call_number]
To: <sip:bob[call_number]@example.com>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
`

const calleeScenario = `<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="callee">
<recv request="INVITE" rrs="true"/>
<send retrans="500"><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=callee-[call_number]
[last_Call-ID:]
[last_CSeq:]
[last_Record-Route:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
Content-Length: 0

]]></send>
<recv request="ACK"/>
<recv request="BYE"/>
<send><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
`

// phones answers every call.
func (p *proxy) phones(t testing.TB) {
	t.Helper()
	path := filepath.Join(p.dir, "callee.xml")
	start(t, p.log, "sipp", "-sf", path, "-i", "127.0.0.1", "-p", strconv.Itoa(p.uas),
		"-nostdin", "-l", "120000", "-buff_size", "4000000")
}

// calls makes n calls, rate a second, that hold for so long.
func (p *proxy) calls(t testing.TB, n, rate int, hold time.Duration, options ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(p.dir, "caller.xml")
	port := freePort(t)
	args := []string{"-sf", path, "-i", "127.0.0.1", "-p", strconv.Itoa(port), "-nostdin", "-buff_size", "4000000",
		"-m", strconv.Itoa(n), "-l", strconv.Itoa(n), "-r", strconv.Itoa(rate),
		"-d", strconv.FormatInt(hold.Milliseconds(), 10)}
	return start(t, p.log, "sipp", append(append(args, options...), fmt.Sprintf("127.0.0.1:%d", p.sip))...)
}
