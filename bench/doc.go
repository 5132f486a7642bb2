// Package bench measures natplane. Run it with
//
//	go test -run '^$' -bench . ./bench
//
// Sub-benchmarks name their dimensions, as in ip=4/flows=1032192/batch=64, so that
// benchstat groups them. Figures are per packet, or per flow where the benchmark says so.
//
//	Outbound, Inbound, Skew, Batch, Size, Parallel   established flows
//	Miss                                             packets that belong to no flow
//	Setup, Grow, Teardown, Expire                    flows, and the longest call
//	Mixed                                            all of it at once
//	Small                                            many translators of few flows
//	Cluster, Gateway, Forward, Tracked, Public,
//	CountTraffic                                     other ways and options
//	Service, ServiceSetup                            connections through Services of a cluster
//	Change                                           how long changes of a cluster hold packets up
//	Workload, Recommend                              connections that package whatif simulates
//	Fork                                             copies of translators, against a memmove
//
// Flow counts are 1,024, 64,512 and 1,032,192; -short leaves the first, and
// NATPLANE_BENCH_LARGE=1 adds 258,048, 4,128,768 and 16,515,072 (8 GiB and half an hour).
// These flags come after the package:
//
//	-flows 64512,258048   flow counts, 256 to 16,515,072
//	-fills 1,50,99        per cent of the ports taken in Setup, 1 to 99
//	-batches 1,64,256     sizes of batches in Batch, 1 to 256
//	-sizes 64,1500        bytes of a packet in Size, 64 to 1500
//	-mix 80,10,10         per cent of packets in Mixed that belong to established flows,
//	                      open one and close one
//
// [BenchmarkFloor] is what the memory system alone costs, over memory as large as a table:
// the packets copied in, and for each of them independent random 64-byte lines read,
// modified and written, two (kind=established) or four (kind=new), prefetched in batches;
// or two lines read of which the second depends on the first (kind=single). Benchmarks of
// established and of new flows measure their floor in the same run and report the ratio as
// x-floor, because machines differ and are noisy. Those of clusters send batches of package
// snat in turns, and report the ratio to these as x-snat.
//
// What comes out is sampled after the clock has stopped: gopacket decodes it, and its
// checksums must be true.
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
