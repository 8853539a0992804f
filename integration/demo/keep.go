package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/busylamp/busylamp/integration/stack"
)

// stay leaves everything running until ctx ends, says how to look around, and shows what
// the lamps do.
func (c *cast) stay(ctx context.Context) error {
	scenario, err := c.Scenario("pair")
	if err != nil {
		return err
	}
	pairs := filepath.Join(c.Dir, "calls.csv")
	if err := os.WriteFile(pairs, []byte("SEQUENTIAL\nalice;bob\n"), 0o600); err != nil {
		return err
	}
	o, url := c.out, c.sidecar.URL
	o.line("")
	o.line("%s until Ctrl-C. In another terminal:", o.bold("Everything stays up"))
	o.line("")
	o.line("  # a call of 10 s from alice to bob (who calls whom is in calls.csv)")
	o.line("  sipp -sf %s -inf %s -key domain %s -m 1 -d 10000 -i 127.0.0.1 -nostdin %s",
		scenario, pairs, stack.Domain, c.proxy.Addr)
	o.line("  # carol does not want to be disturbed, by the plugin's file; and then she does")
	o.line("  echo %s do-not-disturb > %s", carol, c.desk)
	o.line("  : > %s", c.desk)
	o.line("  # who is busy, and what the presence server has been told")
	o.line("  curl -s %s/api/v1/presentities", url)
	o.line("  # is the proxy connected, and do we agree with it?")
	o.line("  curl -s %s/readyz", url)
	o.line("  curl -s %s/api/v1/proxies", url)
	o.line("  # counters")
	o.line("  curl -s %s/metrics | grep ^busylamp_", url)
	o.line("  # logs, and the configuration that busylamp runs with")
	o.line("  tail -f %s", filepath.Join(c.Dir, "busylamp.log"))
	o.line("  ls %s", c.Dir)
	o.line("  cat %s", c.sidecar.Config)
	o.line("")
	for {
		select {
		case s := <-c.watcher.Seen():
			if now := lampOf(s); now != o.lamps[s.User] {
				o.lamps[s.User] = now
				o.row(s.At, "%s turns %s", s.User, words[now])
			}
		case <-ctx.Done():
			o.line("")
			o.line("Stopping everything.")
			return nil
		}
	}
}
