// Package fragments remembers datagrams in pieces, so that each piece can be
// translated without putting the datagram together. Only the first fragment of a
// datagram has ports. It is translated as any packet is, and what becomes of it
// becomes of the others; those that come before it wait.
//
// Terminology, used exactly so in names and comments:
//   - Datagram: what fragments with the same addresses, identification and, over
//     IPv4, protocol belong to, as they come from one side.
//   - Piece: a fragment that has come, as an extent of its datagram.
//   - Waiting: a datagram whose first fragment has not come. Its fragments are queued.
//   - Open: one whose first has come and is not dropped, while others are missing.
//   - Spent: one that is complete, or of which all is dropped.
//   - Owner: who has places in the table, an instance as sender or as receiver. Of
//     datagrams from outside whose receiver is not known yet there is one owner.
//   - Source: an address from which an owner's datagrams come.
//   - Release: the fragments of a datagram that have waited and are on their way out.
//   - Name: addresses and identification; a datagram has one as it comes and one as
//     it has left.
//
// # State and locks
//
// A [Table] has one lock, which guards all that it knows of datagrams. Whole packets
// never take it. It is the first in the order of locks: the callback of
// [Table.Decide] runs under it and takes the lock of a shard. [IDs] has a lock of its
// own, which is the last. All memory is in slabs and indexes without pointers, but for
// the ranks of owners.
//
// # The walk of one fragment
//
//	Decide   what is over at the door is forgotten, a bounded number of datagrams
//	         look up the datagram by the fragment's key
//	         first ─► a copy, an overlap, another one's? drop, discard the datagram
//	                  the callback: translate as a whole packet
//	                  a place in the table, of whoever has most (share.go)
//	                  a new identification; release what has waited
//	         later ─► spent: drop · open: note the piece, rewrite, the first's verdict
//	                  waiting: space for its bytes (share.go), copy, note the piece
//	         all pieces there? spent
//	Advance  forget what is over, a step of it; parse, rewrite and hand out releases
//
// What becomes of a fragment does not depend on how often Advance is called.
//
// # What it does not know
//
// Ports, sessions, routes, shards, frontends, and what an instance is: a number in the
// verdict that the callback returns, and one that the caller gives for the sender of an
// inside fragment. It builds no ICMP errors and translates none; [Table.Recall] says
// which datagram a quoted fragment belongs to.
package fragments
