// Package bench measures natplane. Run it with
//
//	go test -run '^$' -bench . ./bench
//
// Sub-benchmarks name their dimensions, as in ip=4/flows=1032192/batch=64, so that
// benchstat groups them. Figures are per packet, or per flow where the benchmark says so.
//
//	Outbound, Inbound, Skew, Batch, Size, Parallel   established flows
//	Miss                                             packets that belong to no flow
//	Setup, Grow, Teardown, Expire                    flows, and the longest call; Setup with ports
//	                                                 of each instance's own and with shared ones
//	Mixed                                            all of it at once
//	Whole                                            the life of all flows, up to a hundred million
//	Small                                            many translators of few flows
//	Cluster, Gateway, GatewaySetup, Forward,
//	ForwardSetup, Tracked, Public, CountTraffic      other ways and options
//	Service, ServiceSetup                            connections through Services of a cluster
//	Scale                                            the largest cluster that AKS supports
//	Change                                           how long changes of a cluster hold packets up
//	Workload, Recommend                              connections that package whatif simulates
//	Fork                                             copies of translators, against a memmove
//	Snapshot                                         the same written to memory and read back, by as many shards and by others
//
// Flow counts are 1,024, 64,512 and 1,032,192; -short leaves the first, and
// NATPLANE_BENCH_LARGE=1 adds 258,048, 4,128,768 and 16,515,072 (8 GiB and half an hour).
// These flags come after the package:
//
//	-flows 64512,258048   flow counts, 256 to 103,219,200; above 16,515,072 for Whole,
//	                      which needs 16 GiB for the most: -bench Whole -benchtime 1x -timeout 0
//	-fills 1,50,99        per cent of the ports taken in Setup, 1 to 99
//	-batches 1,64,256     sizes of batches in Batch, 1 to 256
//	-sizes 64,1500        bytes of a packet in Size, 64 to 1500
//	-mix 80,10,10         per cent of packets in Mixed that belong to established flows,
//	                      open one and close one
//
// Packets are segments that gopacket has built, with the sockets of pseudo-random flows, and
// of 64 bytes where nothing else is said.
//
// [BenchmarkFloor] is what the memory system alone costs, over memory as large as a table,
// for each kind of work: the packets copied in, and for each of them independent random 64-byte
// lines read, modified and written, two (kind=established) or four (kind=new), prefetched in
// batches; four lines for the end of a flow (kind=expiry); or two lines read of which the second
// depends on the first (kind=single). All benchmarks but Batch, Size, Small, Parallel, Scale,
// Change, Workload and Recommend measure their floor in the same run and report the ratio as
// x-floor, because machines differ and are noisy. Those of clusters send batches of package
// snat in turns, and report the ratio to these as x-snat; Setup with shared ports opens flows with
// ports of their own in turns, and reports x-blocks.
//
// What comes out is sampled while the clock stands still: gopacket decodes it, and its
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
// What no busy machine disturbs are the instructions of a packet, of a new flow with ports of its
// own and with shared ones, and of its expiry. callgrind (package valgrind of Debian) counts them:
//
//	NATPLANE_INSTRUCTIONS=1 go test -run TestInstructions -v ./bench
//
// takes some minutes and fails where a kind of work takes 1 % more than
// testdata/instructions.txt says, which holds for its architecture and minor version of Go
// and is skipped elsewhere. With -update instead of the variable the file is written anew.
// The counts include making the packets, and do not see how long the memory takes: they
// guard against work that creeps in and do not replace the benchmarks.
package bench
