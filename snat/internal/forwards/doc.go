// Package forwards knows which ports of frontends are forwarded, to whom new flows go, and
// whose answers belong to such flows.
//
// Terminology:
//   - Forward: ports of a frontend, and the targets that new flows to them are spread over.
//   - Target: an inside address of an instance. A floating one owns the frontend's address
//     itself, so nothing of its packets is rewritten.
//   - Socket: what a target answers from: an inside address with a port, or with all ports.
//     One that is departed is no target's any more, but has sessions that go on: they are
//     those of the forward that has the frontend's port which they have come by. A socket may
//     answer for several forwards, which have the same shards then, so that by any of them
//     its sessions are found, each with the frontend that it has come by.
//   - Choice: which targets take new flows, and the table that spreads flows over these.
//
// # State and locks
//
// A [Set] is a configuration, immutable but for two things. Of each forward the choice is
// behind an atomic pointer, so that health is switched while packets pass; who switches it
// must be alone. Counts are by shard, under that shard's lock.
//
// The sessions are not here: they are in the shard that [Set.Shard] names for their forward
// and their remote, of those whose policy is the forward's. A packet from outside names
// both, and so does an answer, by its source socket; a target is not needed to find a flow,
// so flows stay with theirs whatever becomes of the others.
//
// # The walk of one packet
//
//	inbound    frontend, protocol, port ─► At: two array reads ─► forward ─► Shard
//	             no session ─► Pick: hash, table, target; the owner begins a session
//	outbound   source socket ─► Seeks: a bit for the port; a probe, or two, only if there are
//	             targets of all ports, or policies with shards of their own ─► forward ─► Shard;
//	             no session there: it is no answer
//	           or a frontend's socket ─► At, as inbound
//
// Per packet nothing allocates, and nothing depends on how many forwards or targets there
// are. Distribution is that of package rendezvous, by a key of its own.
//
// The package refuses to know sessions, timers, packets but for the sockets that [Recent] reads, and
// why a target is down.
package forwards
