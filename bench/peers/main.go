package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	flows := flag.String("flows", "1024,16384,64512,1032192", "flow counts, separated by commas")
	each := flag.Duration("time", 500*time.Millisecond, "how long each figure is measured; the median of five parts counts")
	out := flag.String("out", "results", "directory for table.md and the plots")
	only := flag.String("peers", ".", "regular expression of the names of peers; natplane is always measured")
	flag.Parse()
	if err := run(*flows, *only, *out, *each); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(flows, only, out string, each time.Duration) error {
	var counts []int
	for _, f := range strings.Split(flows, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil || n < batch || n > 1<<23 {
			return fmt.Errorf("-flows %q: %q is not a number from %d to %d", flows, f, batch, 1<<23)
		}
		counts = append(counts, n)
	}
	if each <= 0 {
		return fmt.Errorf("-time %v: must be positive", each)
	}
	names, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-peers: %w", err)
	}
	var chosen []peer
	for i, p := range peers() {
		if i == 0 || names.MatchString(p.name) {
			chosen = append(chosen, p)
		}
	}
	results, err := measureAll(chosen, counts, each)
	if err != nil {
		return err
	}
	table := results.markdown()
	fmt.Print(table)
	return results.write(out, table)
}
