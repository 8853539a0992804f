package sipnet

import "time"

// tempo is how long things may take, and how often they are done. A client has its own, so
// that a test can be quicker than the rest.
type tempo struct {
	// silence is how long a server may say nothing at all while requests wait for it, before
	// it is silent: then it is left, if there is another one, and otherwise no more than
	// asked now and then whether it is still there.
	silence time.Duration
	// streamSilence is the same for one connection, which is given up then. TCP itself would
	// take up to a quarter of an hour to notice that there is nobody at the other end.
	streamSilence time.Duration

	// connTimeout bounds connecting to a server with its handshake, and its not reading what
	// we write.
	connTimeout time.Duration

	probeEvery time.Duration // the pause between two times of asking those who are down
	probeTime  time.Duration // for one answer, connecting included

	dnsAge     time.Duration // how long an answer is good without asking again
	dnsRetry   time.Duration // how long a failure is, while there is no answer at all
	dnsTimeout time.Duration // for one time of asking

	certAge time.Duration // how long files are used without looking at them again
}

var normal = tempo{
	silence:       3 * time.Second,
	streamSilence: 10 * time.Second,
	connTimeout:   5 * time.Second,
	probeEvery:    5 * time.Second,
	probeTime:     2 * time.Second,
	dnsAge:        time.Minute,
	dnsRetry:      time.Second,
	dnsTimeout:    10 * time.Second,
	certAge:       time.Minute,
}
