// Package snat translates the source of outbound packets, and back: from the
// addresses of instances, and of what is behind them, to ports of shared frontends.
// Ports are preallocated to each instance in blocks of eight, as Azure's load
// balancers do it, or all instances share them, as with NAT gateways. It refuses to
// know resources with names, SKUs and Kubernetes; packages lb and overlay compile
// those into a [Config].
//
// Terminology, used exactly so in names and comments. Who and where:
//   - Frontend: a public address whose ports are handed out.
//   - Instance: who owns ports: a virtual machine, a node with its pods.
//   - Subscriber: an inside address, as far as something is counted for it.
//   - Inside, Outside, Remote: the host behind us, the frontend (or node) socket
//     it appears as, and its peer. Roles, not directions.
//   - Realm: an inside address space; those of different realms may overlap.
//   - Public address: one of an instance's own, exchanged 1:1 for its inside one.
//   - No-NAT rule: a [Route] by which all passes both ways untranslated, unremembered.
//   - Forward: sends flows that come from outside to a frontend's port on to hosts
//     inside. Target: one of these hosts.
//
// What is remembered:
//   - Session: one 5-tuple; it stores its rewrite, and as its [flow.Kind] what that
//     is. A tracked one is only remembered: it is not translated.
//   - Mapping: inside socket to outside port, for all its destinations or for as
//     much of one as [Mapping] says. In the log it is a binding, as in RFC 8158.
//     A mapping apart is for a single scope in which another mapping already had
//     the socket's usual port.
//   - Behavior: how flows of a protocol are mapped, filtered and share ports.
//   - Filter: which remotes may send to a mapping's outside port unasked.
//   - Scope: the part of a destination that matters for sharing a port.
//   - Claim: that a mapping uses its port towards a scope.
//   - Query: an ICMP request and what answers it, with an identifier
//     in the place of a port. Error: an ICMP message about a packet, which it quotes.
//   - Half-open: a TCP session from outside whose handshake is not over.
//   - Hairpin: from inside to inside by an outside socket.
//   - Held SYN: one from outside that nobody has asked for, kept for a while in
//     case somebody does.
//   - Tombstone: what is left of a connection that was reset on idle, to answer
//     stragglers. It holds no port.
//
// Ports:
//   - Port block: eight consecutive ports of one frontend, owned by one instance.
//   - Ordinal: a port's number in its instance, in the order of consumption.
//   - Shared ports: those that all instances take on demand, instead of owning them.
//   - Home: the frontend that a subscriber is paired with.
//   - Subscriber's block: ports that a subscriber is granted together, for itself.
//   - Fixed ports: those a deterministic mapping gives a subscriber for good; the
//     dynamic range is what is left of a frontend.
//   - Held: a port kept from a destination after FIN or RST, or after a UDP flow,
//     or from everybody.
//   - Used: a port that at least one new flow could not get, because a flow is
//     active on it or because it is held. [PortUses] tells these apart.
//   - Quarantine: the time for which a port that has lost its last session is kept
//     from everybody.
//   - Awaiting removal: a port that is no longer granted to its instance and only
//     carries the flows it had, for a grace period ([Dataplane].ReclaimGrace), the
//     grace.
//
// Words that mean one thing each, in names too:
//   - Expire: to end by time. Release: by the last session of a port. Evict: under
//     pressure, as the oldest half-open session of a subscriber. Cut: because the
//     configuration has changed; what is not cut is kept.
//   - Grant, reclaim: of ports, to and from an instance. Policy: when flows end, and
//     how. Allocation: which port a flow gets.
//   - Problem: of a field of a configuration. Reason: why a packet is dropped.
//   - Fault: what must not happen, a broken invariant; it costs one session.
//
// # Configuration
//
// A [Config] has instances, routes, and three parts: [Ports] says who has the ports,
// [Owned] or [Shared], and holds what concerns only the one or the other; [Policy] says
// when flows end; [Dataplane] is what packages lb and overlay hand down unchanged. All
// problems come in one error, with the sentinels of package flow and of this one.
//
// # State and locks
//
// Package dataplane has all that packets change, and the way of a packet. A shard owns
// whole instances: their sessions, the state of their ports, their counters. One lock
// guards it. Both directions of a flow and the allocation of its port happen under this
// lock, so there is no gap between looking and claiming, and what one instance gets does
// not depend on how goroutines interleave on others. Sessions of a forward are where
// their remote is. With [Shared] ports a shard owns remotes instead of instances: all
// that compete for a port towards a destination still are under one lock.
//
// [NAT.Reconfigure] puts another configuration in place with the locks of all shards
// held; only then can an instance change its shard. Sessions whose time is up end in
// the order of their deadlines, in [NAT.Advance] or when a packet finds one or begins
// a flow.
//
// This package has the other half: what can be configured ([Config]) is checked, compiled
// (compile.go, rules.go), told (tell.go) and observed ([NAT.Stats] and the like). Its only
// state is the configuration in force, guarded by one lock that is taken before all
// others.
//
// A pod behind a node is translated twice in Azure, to its node and to the
// frontend. Here that is one session; the port at the node is kept in it
// ([flow.Info].Data[0]) and is unique among the node's flows to one remote: the
// source port if it is free there, else the first free one of a fixed walk, found in
// the same time however many are taken.
//
// # Port allocation
//
// By default, which is Azure, a TCP port serves any number of flows whose remote
// address or port differ; it is chosen as the lowest one free for the destination.
// A UDP socket gets one port for all its destinations, and shares it with another
// socket where their destination addresses differ; where it meets the other, it gets
// a further port for that destination alone. TCP and UDP have separate ports.
// A flow is refused if and only if no port is usable.
//
// [Behavior] selects any other combination of mapping, filtering and sharing, for each
// protocol. The other fields of [Owned] choose ports other than the lowest, bound what a
// subscriber may have, and grant it ports in blocks. Package ports carries all that out,
// by what rules.go tells it, under the lock of the instance, when a session begins or
// ends; packets that have one do not come near it.
//
// Of shared ports, every flow gets a random port without flows, or if there is
// none, a random one without a flow to its destination, unless [Shared].Choice
// says otherwise. The same seed and the same packets at the same times
// give the same ports, however many shards there are, and however often Advance is
// called.
//
// Package snat/preset has configurations that behave as products are documented to.
// Package snat/ipfix writes events as data records. Package snat/deterministic, which
// this one uses, computes who has which port without a translator.
//
// # Limits
//
// 2026-11: TCP and UDP are translated, and what [ICMP] permits, by default nothing;
// other protocols are dropped, as on an Azure load balancer's outbound rule and in
// default outbound access, and so are fragments unless [Dataplane].Fragments says
// otherwise. TCP and UDP cannot share a mapping, which RFC 7857 section 5 has as an
// option. There are no ALGs: nothing in a payload is translated, except what an
// ICMP error quotes.
//
// Public addresses: all protocols and fragments pass between an instance and its own
// public address; what is behind the instance follows the rules above. In ICMP errors
// about the instance's own flows the quoted address is exchanged too, whatever the
// protocol; those that are fragmented, damaged, or about somebody else are dropped.
// These flows are not tracked, except that those that [Dataplane].Admit has let begin are
// known, and with [Config].RememberEntries all: a flow of what is behind the instance may be
// given a port that one of them uses towards the same remote, and then gets the replies.
//
// Hairpins: without [Owned].Hairpin an inside packet to a frontend is dropped.
// With it, packets to a public address are still dropped, and so are fragments and
// ICMP queries to a frontend: identifiers of a frontend admit replies only, so the
// Basic NAT of RFC 5508 REQ-7 does not arise.
//
// ICMP errors: of quoted TCP segments the sequence number is not checked (RFC
// 5927); the hosts do that. A fragmented error is dropped, never half translated;
// so is one that quotes a later fragment, if [Dataplane].Fragments does not (or no
// longer) know its datagram or [ICMP].MTU has split it.
//
// What RFCs demand besides, and who meets it, is in package snat/requirements. A NAT is
// safe for concurrent use by many goroutines. Where to look stands at the end of doc.go.
package snat

// Where to look; each package below has a package comment of its own.
//
//	where is a field checked?            beside its type; Dataplane, Shared, and what must go together:
//	                                     validation.go
//	what is a field compiled to?         compile.go; of ports, rules.go
//	what does an inbound rule plug into? Config.Forwards ─► package forwards
//	who tells the log, and Admit?        tell.go
//	what may Reconfigure change?         validateChange in reconfigure.go; package dataplane does it
//	what becomes of a packet?            package dataplane
//	where is a port chosen?              package ports
