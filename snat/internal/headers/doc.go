// Package headers reads of a packet what a session needs to know, and writes into it what
// a session changes. All of it are functions of the bytes; package wire has parsed them.
//
//   - What a session does to each packet of a direction is decided once, when it begins:
//     [Decide] keeps the checksum deltas of RFC 1624 in it, and [Outbound4], [Outbound6],
//     [Inbound4] and [Inbound6] apply them.
//   - [Addresses], [Tuple] and [RemotePort] say between whom a packet is, [Segment] what the tracker
//     is shown of it. For nearly all segments [Plain], [SeqOf], [AckOf], [WindowOf] and
//     [DataLen] are enough.
//   - [First] says which segments of the inside may begin a flow, [Leniency] which packets pass that
//     the parser refuses.
//
// It refuses to know who owns an address, routes and shards. Nothing here allocates or
// locks.
package headers
