// Package dataplane is a translator at work: the way of a packet, and all that happens
// under the lock of a shard. It refuses to know how a configuration is written, checked and
// explained, and in which words events are told. Package snat compiles the configuration
// (package compiled), and puts into words what it sees (observe.go) or is told ([compiled.Hooks]).
//
// # Types
//
//   - [NAT] is the translator. Its owner holds it by value.
//   - shard is what one lock guards: sessions (a [flow.Shard]), ports ([ports.State]),
//     counters, resets that wait, and the policy of its instances.
//   - instance is an [instances.Instance]; it lives in one shard.
//   - routes is the configuration as packets read it (package routing), immutable, behind an atomic pointer.
//   - layout is a configuration laid out for packets that is not in force yet.
//   - lane is what is known of one packet on its way; moment, what all packets of a call
//     have in common; batch, many packets abreast.
//
// # State and locks
//
// A shard owns whole instances: their sessions, the state of their ports, their
// counters. One lock guards it, that of the [flow.Shard] underneath. Both
// directions of a flow and the allocation of its port happen under this lock, so
// there is no gap between looking and claiming, and what one instance gets does
// not depend on how goroutines interleave on others. Sessions of a forward are where
// their remote is. Routes are a snapshot (package routing).
//
// [NAT.Reconfigure] puts another one in its place, with the locks of all shards
// held, for as long as what changes takes (survey.go); only then can an instance change its
// shard. A packet that has looked at the old snapshot finds out under its lock, by one
// comparison, and begins again.
//
// With shared ports a shard owns remotes instead: all sessions with one remote
// address and port of one protocol, which packets of both directions name, and
// ICMP errors in what they quote. So all that compete for a port towards a
// destination still are under one lock. Which ports have no flow at all is known to
// all shards, under a lock of its own that is held for a few steps when a session
// begins or ends, and never while packets of established flows pass.
//
// Sessions whose time is up end in the order of their deadlines, in [NAT.Advance]
// or when a packet finds one or begins a flow (due.go). No packet holds such a
// session meanwhile (settle in due.go), so none ends while a packet uses it.
//
// The order in which locks are taken stands beside them, in state.go.
//
// # The walk of one packet
//
// Every packet takes one and the same pass through a lock, whatever door it comes by:
// NAT.pass in pass.go, or for many packets at once batch.go. This is what it meets.
//
//	outbound   parse ─► source ─► instance ─► shard ─► lock
//	             an instance with a public address: exchange addresses, done (public.go)
//	             session? ─ hit ──► track TCP, touch, apply the stored rewrite
//	                      └ miss ─► route by destination: translate, node address,
//	                                pass through, drop
//	                                may it begin a flow? (SYN, checksum, addresses)
//	                                node port, if sources share the node's address
//	                                lowest outside port free for this destination,
//	                                or what ports.Rules say
//	                                store session, index both directions, arm timer
//	           a target's socket: first in the shard of its forward (forwarding.go)
//	inbound    parse ─► (frontend, port/8) ─► owner's shard, one array read; nobody's:
//	             its forward, and a shard by remote (package forwards) ─► lock
//	             session? ─ hit ──► track TCP, touch, apply the reverse rewrite
//	                      └ miss ─► send on to a target, if to a forward; exchange
//	                                addresses, if to a public address; pass by a
//	                                no-NAT rule (nonat.go); may a route or the filter
//	                                of the port's mapping admit it? store session, as
//	                                above (tracked.go, filter.go); drop, and hold a SYN
//	                                (package heldsyn) or answer (reset.go)
//	hairpin    outbound, and then inbound, each under its own lock (hairpin.go)
//	fragment   the first of a datagram as above; the others get its verdict and its
//	             rewrite, or wait for it (package fragments)
//	Advance    sessions due ─► RST to both ends if established and so configured
//	             ─► port free, or in quarantine ─► record gone; then what was made or has waited
//	             since: RSTs, ICMP errors, fragments
//
// Upward go only: questions of package ports ([ports.Owner], and whether a port is taken),
// Admit, Hooks, and a first fragment or hairpin, which passes again.
package dataplane

// Where to look, besides the walk above; each package below has a package comment of its own.
//
//	what does an address mean?           packages addresses and routing, read by parse.go
//	where does a packet find its shard?  parse.go; with shared ports locate in pass.go
//	where is a port chosen?              open in outbound.go ─► package ports
//	what does an inbound rule plug into? Config.Forwards ─► forward_layout.go, package forwards; forwarding.go
//	who lets a stranger in?              firstInbound in process.go ─► filter.go, tracked.go, forwarding.go
//	who asks Config.Admit?               package routing, from admit.go and wherever a session begins
//	where would SCTP go?                 package headers reads it, track in segment.go follows it,
//	                                     package ports has its pools (PoolIndex), create in
//	                                     session.go starts its timers, packages wire and
//	                                     headers have its checksum; tests for TCP or UDP are in
//	                                     parse.go, forwarding.go, addresses.go, message.go,
//	                                     hairpin.go, traffic.go and headers/addresses.go
//	who translates an ICMP error?        message.go finds its session, icmp_fragment.go that of
//	                                     a later fragment; package icmp rewrites
//	who holds fragments?                 package fragments, from fragment in pass.go;
//	                                     dropFragments in fragment.go counts
//	who counts a drop?                   package counters, and dropEarly in pass.go
//	when does a closed one give way?     lasts in segment.go; giveWay in process.go
//	who ends a session?                  due.go, by time; cut.go, by configuration; package ports, by Owner
//	who makes a RST, an ICMP error?      package resets, from due.go (idle) and reset.go (answers);
//	                                     package hop, from hop.go
//	what does a new configuration move?  layout.go plans (package placement), survey.go looks,
//	                                     cut.go and keep.go act
//	who tells the log?                   log.go, by Hooks
//	who copies state?                    fork.go, by the rooms' Fork and ForkTo
//	what can be seen from above?         observe.go; what tests ask, inspect.go
