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
//
// The file testdata/baseline.txt is a run to compare with, as go test has printed it,
// with the machine named at its head. On that machine
//
//	go test -short -run '^$' -bench . -count 5 ./bench > new.txt
//	benchstat bench/testdata/baseline.txt new.txt
//
// shows what has changed. On another one make a baseline of your own first, from the
// state before: only figures of the same machine compare, and on a busy one only those
// of runs that alternate.
//
// # Instructions
//
// What no busy machine disturbs are the instructions of a packet, and of a flow from its
// first packet to its expiry. callgrind (package valgrind of Debian) counts them:
//
//	NATPLANE_INSTRUCTIONS=1 go test -run TestInstructions -v ./bench
//
// takes half a minute and fails where a kind of work takes 1 % more than
// testdata/instructions.txt says, which holds for its architecture and minor version of Go
// and is skipped elsewhere. With -update instead of the variable the file is written anew.
// The counts include making the packets, and do not see how long the memory takes: they
// guard against work that creeps in and do not replace the benchmarks.
package bench
