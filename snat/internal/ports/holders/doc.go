// Package holders counts who holds outside ports: which inside address, towards which
// destination, how many of them for what, how many flows it begins, how many were refused
// and because of whom. So nobody has to walk over the sessions to know.
//
// It refuses to know sessions and ports: whoever gives and takes these tells it. It is part of
// what the lock of one shard guards.
//
// Terminology:
//   - Party: whoever is counted: an inside address of an instance and of one protocol, or a
//     destination, which is a remote address and port of one protocol, in one space of ports.
//   - Space: ports that exclude each other: those of an instance, or those that all
//     instances share ([AllInstances]).
//   - Pair: an inside address and a destination, as long as the one holds ports towards
//     the other.
//   - Crowd: the pairs of a destination, or the inside addresses of an instance, family and protocol.
//   - Leader: who holds most ports in a crowd; of equals, the one with the lowest address.
//   - Suffered: a refusal counts for the inside address and the destination of the refused
//     flow. Blamed: it counts for the inside address that made it so.
//   - Use: what a port is held for.
//
// # Whom a refusal is blamed on
//
// On the leader of the destination's pairs at this moment, for without the ports that it holds
// there the most others would be free. Where nobody holds a port towards the destination, which is so
// if sockets exclude each other whatever their destinations, on the inside address that holds most of the
// instance's ports of the family and protocol; of shared ports, which are refused for their destination only, on
// nobody. A limit that the refused inside address has reached is its own doing. Where there are no ports, or no
// memory, nobody is blamed. Shares of the blame in proportion would cost a walk over the crowd for
// each refused packet, and tell little more: the ports are gone because of the biggest.
//
// # What is exact
//
// All that is counted of inside addresses and destinations that hold ports. Those that hold none are
// remembered while there are no more than [Rules].Limit of their kind; then the ones that have been idle
// longest are forgotten, and their counts go to those of their instance ([Table.Forgotten]). Inside addresses that hold ports are
// never refused a record. Pairs, and destinations, are: beyond Limit a flow whose pair has no record is
// spilled: it counts for its inside address, and for no destination. All flows of a pair are counted
// alike: it gets a record only while nothing is spilled in its place of a small table of counts
// (spill.go). So what a destination holds beyond its record is nothing, and what one without a record
// holds is at most [Table.MostSpilled].
//
// New flows are counted by windows of virtual time: the rate of a party is that since the beginning of
// the window before the one that now lies in. So it depends on nothing but when flows have begun.
package holders
