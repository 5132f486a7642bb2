// Package ports knows who has which port. It finds the outside port of a new flow,
// keeps it as long as a session uses or holds it, and lets it go.
//
// It refuses to know packets, routes, realms, fragments, and what a configuration looks
// like: package snat compiles its own into [Rules], and lays out with [Layout] what each
// instance is granted.
//
// Terminology, besides that of package snat:
//   - Tuple: the 5-tuple of a flow on the slow path, where both families share the code.
//   - Pool: the ports of one instance for one family and protocol. An ordinal is the
//     number of a port in its pool, in the order of consumption; a range is consecutive
//     ordinals that are consecutive ports.
//   - Use: what a port is used for, as a count of the sessions on it and their classes (package usage).
//   - Share: what one instance has of one outside address, in counts.
//   - Sharing: when mappings may use the same port.
//   - Scope: as much of a destination as matters for that (package destinations).
//   - Mapping, claim: an inside socket's outside port, and that it is used for a scope.
//   - Home: the outside address that a subscriber is paired with. Records of subscribers
//     are in package subscribers.
//   - Holder: who has a port; package holders counts them, if asked to (holders.go).
//   - Book: who hands ports out.
//
// # Two books
//
// There are two, which answer the same questions: release, exchange, count. Each has its own way
// to take a port ([State.Take]).
//   - Instances own their ports. All that a flow needs is under the lock of its
//     instance's shard. allocate.go finds the mapping, pick.go the port; lowest.go and
//     package destinations are what Azure's load balancers do, blocks.go, subscriber.go
//     and quarantine.go what other products do besides.
//   - All instances share them (shared.go, choose.go). Then shards own remotes, and a
//     flow is in the shard of its remote, so whoever competes for a port towards a
//     destination is under one lock here too. Which ports have no flow at all (package
//     shelves) is guarded by a lock of its own, and can be foreseen (foresight.go).
//
// # State and locks
//
// [Space] is what all shards have in common. It is written with the locks of all shards
// held and read with any. [State] is what the lock of one shard guards: destinations,
// mappings, subscribers, ports in quarantine. [Instance] has the pools of an instance,
// and is guarded by its shard's lock as well. [Frontend] counts over all shards, in
// atomic variables. Sessions are in the flow.Shard underneath, which a State asks
// whether an outside socket is taken.
//
// What only the translator can do is asked of an [Owner], under the lock of the shard:
// to end a session, or to count a broken invariant. What subscribers get is told to the
// function given to [Space.Install].
//
// # State by index
//
// What is remembered names everything by index: a range its share, a share its frontend,
// a pool its instance, a sleeping pool the instance, family and protocol, a block its
// shelf. Records are in memory of package slab, random sources are values. So a copy of
// the state is a copy of its memory, and what is written can be read back: a State, the
// holdings of an Instance, the counts of a Frontend and the book of shared ports hold no
// pointers but those that TestStateHoldsNoPointers lists. A snapshot has of it what only its
// history tells, and is read after a Layout of the same configuration was installed (archive.go).
//
// # The way of one flow
//
//	begins   Take: does its subscriber exceed a limit? has its socket a mapping?
//	         else a port by the rules, looked up once in the sessions; the port is
//	         occupied, the mapping joined, the destination remembers it
//	from outside   Admit: has the port a mapping that admits the remote? Enroll, Join
//	at a node      NodePort, and TakeNodePort once there is a session
//	changes        Exchange: closed, it only holds its port
//	ends     Release: the mapping is left, the port vacant or in quarantine; Wake lets it go
//
// [Ahead] fetches what Take will read for the next new flows while others begin (ahead.go); it
// changes nothing.
//
// Packets of established flows do not come here. The configuration changes by way of a
// [Layout]; see rebook.go.
package ports
