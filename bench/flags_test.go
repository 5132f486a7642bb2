package bench

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Flags of the benchmarks; the package comment says how to give them.
var (
	flowsFlag   = flag.String("flows", "", "flow counts, separated by commas, instead of the usual ones")
	batchesFlag = flag.String("batches", "1,4,16,64,256", "sizes of batches of BenchmarkBatch, 1 to 256")
	sizesFlag   = flag.String("sizes", "64,128,256,512,1024,1500", "bytes of a packet in BenchmarkSize, 64 to 1500")
	fillsFlag   = flag.String("fills", "1,50,99", "per cent of the ports taken in BenchmarkSetup, 1 to 99")
	mixFlag     = flag.String("mix", "80,10,10", "per cent of packets of BenchmarkMixed that belong to established flows, open one and close one")
)

// numbers reads a list of numbers within bounds.
func numbers(b testing.TB, list string, least, most int) (all []int) {
	all, err := parseNumbers(list, least, most)
	if err != nil {
		b.Fatal(err)
	}
	return all
}

func parseNumbers(list string, least, most int) (all []int, err error) {
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < least || n > most {
			return nil, fmt.Errorf("%q in %q is not a number from %d to %d", s, list, least, most)
		}
		all = append(all, n)
	}
	return all, nil
}

// mix reads -mix.
func mix(b testing.TB) [3]int {
	n := numbers(b, *mixFlag, 0, 100)
	if len(n) != 3 || n[0]+n[1]+n[2] != 100 || n[2] > n[1] {
		b.Fatalf("-mix %q: must be three numbers whose sum is 100, and cannot close more flows than it opens", *mixFlag)
	}
	return [3]int(n)
}

// flowCounts are the table sizes: one instance, and the ports of one, four, 16, 64 and 256
// frontends. Those that take long are left out unless NATPLANE_BENCH_LARGE=1, and all but
// the first with -short.
func flowCounts(b testing.TB) []int {
	switch {
	case *flowsFlag != "":
		return numbers(b, *flowsFlag, 256, 103_219_200)
	case testing.Short():
		return []int{1024}
	case os.Getenv("NATPLANE_BENCH_LARGE") == "1":
		return []int{1024, 64_512, 258_048, 1_032_192, 4_128_768, 16_515_072}
	}
	return []int{1024, 64_512, 1_032_192}
}
