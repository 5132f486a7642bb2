// Package bench measures natplane. Run it with
//
//	go test -run '^$' -bench . ./bench
//
// Sub-benchmarks name their dimensions, as in ip=4/flows=1032192/batch=64.
// Figures are per packet (or per flow, where the benchmark says so). Flow counts
// go up to 1,032,192; NATPLANE_BENCH_LARGE=1 adds 16,515,072.
//
// [BenchmarkFloor] is what the memory system alone costs: the packets copied in,
// and for each of them two independent random 64-byte lines read, modified and
// written, over memory as large as the table. Every benchmark of established
// flows measures the floor of its own size in the same run and reports the ratio
// as x-floor, because machines differ and are noisy.
package bench
