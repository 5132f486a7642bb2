// Package flow is a lock-sharded table of flows: keys, time, verdicts, the TCP
// tracker, idle classes and expiry. It refuses to know address translation,
// ports as a resource, and what an instance is; package snat builds that on it.
//
// Terminology, used exactly so in names and comments:
//   - Key: the directed 5-tuple of a packet, plus the overlay VNI.
//   - Session: one tracked conversation, known by two keys: as the inside sends
//     it and as the remote sends it. They mirror each other unless someone
//     translates in between.
//   - Kind: what becomes of a session's packets, as its translator has decided.
//   - Shard: an independent part of the table with one lock. Whoever inserts a
//     session decides its shard; look-ups happen in one shard.
//   - Class: how long a session may idle; TCP states map to classes.
//   - Rules: by whom TCP is followed, the RFCs or Linux ([TCPRules]).
//   - Tick: a millisecond, the resolution of timers.
//
// # State and locks
//
// A shard owns its sessions, an index from the hashes of both keys to sessions,
// and a timing wheel. All of it is guarded by the shard's lock and lives in
// pointer-free memory outside the garbage-collected heap. Sessions are 64-byte
// records (128 for IPv6) that never move; IDs name them.
//
// # The walk of one packet
//
// Hash the key; lock the shard; read the index bucket (one cache line); compare
// the candidate's record (another line); on a hit show the segment to its
// tracker and write the tick into the record; unlock. Timers are not touched: a
// timer that fires early finds the newer tick and moves on. A batch of packets
// prefetches all buckets first, then all records ([Guesses]).
//
// # Time
//
// Nobody reads a clock. Callers pass the time of each packet and call
// [Table.Expire] or [Shard.Expire] when [Table.NextDeadline] says so. A session
// whose idle time has passed but whose timer has not been processed is found by
// look-ups; [Shard.Expired] tells. The first packet may come at any time. While
// there are sessions, Expire must follow often enough that no session's idle
// time reaches 2^31 ticks, 24.8 days: records keep 32 bits of a tick.
//
// A Table is safe for concurrent use.
package flow
