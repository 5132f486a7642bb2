// Package whatif answers questions about a cluster before Azure does: it sends a described
// workload through it in virtual time, as real packets, and says what was refused, when, and who
// held the ports.
//
// Terminology, used exactly so in names and comments:
//   - World: what carries the packets, such as an [overlay.Cluster] or a [snat.NAT].
//   - Host: who sends; a pod, or any other source behind the world.
//   - Workload: a description of traffic; of each [Traffic] who sends, to whom, how often, and
//     how (its [Class]).
//   - Arrival: the moment at which a host wants something: a request, or a lookup.
//   - Conversation: a TCP connection or a UDP socket of a host, and its peer at the destination.
//   - Exchange: a request and its answer.
//   - Refusal: a first packet that the world drops. A conversation may be refused several times
//     and succeed in the end.
//   - Cut: a conversation that the world has reset.
//   - Broken: a conversation whose packet the world has dropped, because it had forgotten the flow.
//   - Step: the unit of virtual time: what happens within one happens together, in batches.
//
// # The life of a conversation
//
//	arrival ─► opening ─ SYN ─► refused? ─ 1, 2, 4 .. s later again ─► failed
//	              │ forwarded: what came out tells the peer where to answer
//	              └► awaiting ─ SYN-ACK ─► ACK, request ─► awaiting ─ answer ─► ACK ─┐
//	                    ┌──────────────────── next exchange, after a pause ◄─────────┤
//	                    │   in its pool, until an arrival takes it or it is idle     │
//	                    └── keep-alive probes                                        │
//	                             FINs or RST by either end, or nothing at all ◄──────┘
//
// The same state stands for both ends, for nothing gets lost but in the world: a packet of the
// client is sent in the step that its turn comes, and what the peer answers arrives at the world a
// round trip later. There is no way between host and world. Each message is one segment, because
// further segments of a flow take no further port. Sequence and acknowledgment numbers, windows
// and checksums are as two hosts with Linux would have them, without timestamps. A dropped packet
// of an open connection would be sent again for a quarter of an hour before the application knew;
// here the conversation is broken at once, as nothing of it takes a port any more.
//
// # Who owns what
//
//	Simulation        one goroutine's; arrivals (arrivals.go, replay.go), conversations (conversation.go and
//	                  datagram.go), their sockets (sockets.go), pools (pool.go), what is under way (batches.go), observation (observe.go)
//	internal/agenda   which conversation is due in which step
//	internal/segments headers and payloads of the packets
//	trace             files and captures, as conversations to be had again
//	World             its own; others may use it meanwhile, but then results depend on them
//
// Nothing here starts a goroutine or allocates for a packet, and the one lock is that of the
// progress of a sweep; conversations lie in a slice without pointers, and are used again. Chance is
// that of [Workload].Seed, for each Traffic its own, so that one more Traffic does not change the
// arrivals of the others.
//
// # Questions
//
// A [Simulation] can be forked with its world, to go on under another configuration. A [Sweep]
// simulates one workload under many settings, a [Grid] of axes such as [OutboundPorts], perhaps from
// where a common warm-up ends, and
// [Recommend] searches for the cheapest one that refuses nothing, and cuts nothing if so wished,
// and proves it. [Sustained] and [Exhaustion] are what can be said without a simulation.
//
// # Limits
//
// Our choices, November 2026: a host uses its 28,232 ephemeral ports (32768 to 60999, the default
// of Linux) in turn, each beginning elsewhere, one for each conversation of a protocol, whatever
// the destination, and none rests in TIME-WAIT. Destinations lie outside of the cluster and answer
// by [flow.Translator].Inbound. Hosts do not come or go. A Simulation
// refuses to know outbound types, ports and tables: it knows worlds by their doors and statistics.
// Axes and Recommend know the configuration of a cluster.
package whatif
