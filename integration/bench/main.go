// Command bench measures busylamp beside the bare proxy and beside pua_dialoginfo, on one
// machine and in one run, prints a table, and writes RESULTS.md, results.json and plots beside
// its source. It ends with 1 if a goal was missed by more than the run's spread.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	var (
		only   = flag.String("only", "", "numbers of goals, or names of measures, by commas: run these alone (writes no page)")
		quick  = flag.Bool("quick", false, "short runs, to see that it works (writes no page)")
		raw    = flag.String("json", "", "write all samples to `FILE`, too")
		out    = flag.String("out", "", "write page, plots and raw figures to this `FOLDER`, of a short or partial run, too (default integration/bench, of a whole run)")
		redraw = flag.Bool("redraw", false, "measure nothing: write the page and the plots anew from results.json, after floors.md or how they are drawn has changed")
		binary = flag.String("busylamp", "bin/busylamp", "the `FILE` that is measured where a proxy is")
		list   = flag.Bool("list", false, "list the measures")
		kid    = flag.String("child", "", "measure `NAME` in this process, samples to standard output (the bench calls itself so)")
		helper = flag.String("helper", "", "run helper `NAME` (the bench calls itself so)")
		dir    = flag.String("dir", "", "folder for files of -child")
	)
	var defines []string
	flag.Func("define", "more of kamailio's -A `NAME=value` for the proxy with busylamp.cfg, to try something (repeat it)", func(d string) error {
		defines = append(defines, d)
		return nil
	})
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	err := error(nil)
	missed := false
	switch {
	case *list:
		for _, m := range measures() {
			fmt.Printf("%-12s %s\n", m.Name, m.What)
		}
	case *helper != "":
		h := helpers[*helper]
		if h == nil {
			err = fmt.Errorf("-helper %s: no such helper", *helper)
			break
		}
		err = h(ctx, flag.Args())
	case *redraw:
		var dir string
		if dir, err = pageFolder(); err == nil {
			err = redrawPage(dir)
		}
	case *kid != "":
		err = child(ctx, *kid, Env{Quick: *quick, Dir: *dir, Busylamp: *binary, Progress: progressOf(*kid)}, os.Stdout)
	default:
		missed, err = benchmark(ctx, choice{only: *only, raw: *raw, out: *out}, Env{Quick: *quick, Busylamp: *binary, Defines: defines})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || missed {
		return 1
	}
	return 0
}
