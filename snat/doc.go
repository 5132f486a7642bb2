// Package snat translates the source of outbound packets, and back: from the
// addresses of instances, and what is behind them, to ports of shared frontends
// that are preallocated to each instance in blocks of eight, as Azure's load
// balancers do, or that all instances share, as with NAT gateways. It refuses to know resources with names, SKUs and Kubernetes; packages lb and
// overlay compile those into a [Config].
//
// Terminology, used exactly so in names and comments:
//   - Frontend: a public address whose ports are handed out.
//   - Port block: eight consecutive ports of one frontend, owned by one instance.
//   - Instance: who owns ports: a virtual machine, a node with its pods.
//   - Inside, Outside, Remote: the host behind us, the frontend (or node) socket
//     it appears as, and its peer. Roles, not directions.
//   - Session: one 5-tuple being translated; it stores its rewrite.
//   - Public address: one of an instance's own, exchanged 1:1 for its inside one.
//   - Mapping: inside socket to outside port, for all its destinations or for as
//     much of one as [Mapping] says.
//   - Claim: that a mapping uses its port towards a scope.
//   - Hairpin: from inside to inside by an outside socket.
//   - Scope: the part of a destination that matters for sharing a port.
//   - Ordinal: a port's number in its instance, in the order of consumption.
//   - Tombstone: what is left of a connection that was reset on idle, to answer
//     stragglers. It holds no port.
//   - Held: a port kept from a destination after FIN or RST, or after a UDP flow,
//     or from everybody.
//   - Quarantine: the time for which a port that has lost its last session rests,
//     kept from everybody.
//   - Subscriber: an inside address, as far as something is counted for it.
//   - Subscriber's block: ports that a subscriber is granted together, for itself.
//   - Fixed ports: those a deterministic mapping gives a subscriber for good; the
//     dynamic range is what is left of a frontend.
//   - Binding: a mapping, in the log.
//   - Home: the frontend that a subscriber is paired with.
//   - Awaiting removal: a port that is no longer granted to its instance and only
//     carries the flows it had, for a grace.
//   - Cut: to end a session because the configuration has changed.
//   - Inventory: ports that all instances share and take on demand.
//   - Realm: an inside address space; those of different realms may overlap.
//   - Held SYN: one from outside that nobody has asked for, kept for a while in
//     case somebody does.
//
// # State and locks
//
// A shard owns whole instances: their sessions, the state of their ports, their
// counters. One lock guards it, that of the [flow.Shard] underneath. Both
// directions of a flow and the allocation of its port happen under this lock, so
// there is no gap between looking and claiming, and what one instance gets does
// not depend on how goroutines interleave on others. Configuration is an
// immutable snapshot behind an atomic pointer (routes.go).
//
// [NAT.Reconfigure] puts another one in its place, with the locks of all shards
// held; only then can an instance change its shard. A packet that has looked at
// the old snapshot finds out under its lock, by one comparison, and begins again.
//
// With an [Inventory] a shard owns remotes instead: all sessions with one remote
// address and port of one protocol, which packets of both directions name, and
// ICMP errors in what they quote. So all that compete for a port towards a destination still are under one lock.
// Which ports have no flow at all is known to the inventory, under a lock of its
// own that is held for a few steps when a session begins or ends, and never while
// packets of established flows pass. Lock order: shards in ascending order, then
// the inventory. Held SYNs, and packets that we make, have locks of their own, which
// come last.
//
// Fragments, if they are translated, have a table of their own under one lock,
// which is taken before a shard's and never by whole packets (fragtable.go).
//
// # The walk of one packet
//
//	outbound   parse ─► source ─► instance ─► shard ─► lock
//	             an instance with a public address: exchange addresses, done (public.go)
//	             session? ─ hit ──► track TCP, touch, apply the stored rewrite
//	                      └ miss ─► route by destination: translate, node address,
//	                                pass through, drop
//	                                may it begin a flow? (SYN, checksum, addresses)
//	                                node port, if sources share the node's address
//	                                lowest outside port free for this destination,
//	                                or what Allocation and Limits say
//	                                store session, index both directions, arm timer
//	inbound    parse ─► (frontend, port/8) ─► owner's shard, one array read ─► lock
//	             session? ─ hit ──► track TCP, touch, apply the reverse rewrite
//	                      └ miss ─► exchange addresses, if to a public address;
//	                                pass by a no-NAT rule (nonat.go); or does the
//	                                port have a mapping whose filter admits the
//	                                remote? store session, as above (filter.go);
//	                                drop, and hold a SYN (heldsyn.go) or answer
//	                                (unknown.go)
//	hairpin    outbound, and then inbound, each under its own lock (hairpin.go)
//	Advance    sessions due ─► RST to both ends if established and so configured
//	             ─► port free ─► record gone
//
// A pod behind a node is translated twice in Azure, to its node and to the
// frontend. Here that is one session; the port at the node is kept in it
// ([flow.Info].Data[0]) and is unique among the node's flows to one remote.
//
// # Port allocation
//
// By default, which is Azure, a TCP port serves any number of flows whose remote
// address or port differ; it is chosen as the lowest one free for the destination.
// A UDP socket gets one port for all its destinations, and shares it with another
// socket where their destination addresses differ. TCP and UDP have separate
// inventories. A port is refused if and only if none is usable.
//
// [Behavior] makes that any other combination of mapping, filtering and sharing,
// for each protocol. [Config].Allocation asks for other ports than the lowest
// (pick.go), pairs subscribers with frontends (subscriber.go) and lets freed ports
// rest (quarantine.go); [Config].Limits bounds what a subscriber may have
// (limits.go); [Config].Blocks grants it ports in blocks (blocks.go), besides the
// fixed ones of an [Instance].Deterministic. What RFC 8158 wants logged is told to
// [Hooks].Event (events.go). All of it is decided under the lock of the instance,
// when a session begins or ends; packets that have one do not come near it. The
// same goes for which of them refresh a session ([UDPRefresh]): a mask, not a
// branch.
//
// Of an inventory, every flow gets a random port without flows, or if there is
// none, a random one without a flow to its destination (choose.go). The same seed
// and the same calls, Advance included, give the same ports.
//
// A [Preset] is a configuration that behaves as a product is documented to.
//
// # Limits
//
// 2026-11: TCP, UDP and what [ICMP] permits, by default nothing; the rest is
// dropped, as on an Azure load balancer's outbound rule and in default outbound
// access, and so are fragments unless [Config].Fragments says otherwise. An
// instance with a public address sends and receives them all, what is behind it
// does not (or fragments and ICMP only by the same rules); packets quoted in ICMP
// errors about the instance's own flows through it are not translated. Those
// flows are not tracked: a flow of what is behind it may be given a port that one
// of them uses towards the same remote, and then gets the replies. Without
// [Config].Hairpin an inside packet to a frontend is dropped, and always are one
// to a public address, and fragments and ICMP queries to a frontend: identifiers of
// a frontend admit replies only (the Basic NAT of RFC 5508 REQ-7 does not arise).
// TCP and UDP cannot share a mapping (RFC 7857 section 5 has it as an option). Of TCP segments quoted in ICMP errors the sequence number is
// not checked (RFC 5927): the hosts do that. A fragmented ICMP error is dropped,
// never half translated; so is an error that quotes a fragment other than the
// first of a datagram that [Config].Fragments does not know, or no longer, or that
// [ICMP].MTU has cut.
//
// A NAT is safe for concurrent use by many goroutines.
package snat
