// Package resets makes the RSTs of a translator: for both ends of a connection that is
// reset on idle, for stragglers of such a connection, and for segments of connections
// that nobody knows. They wait in a [Queue] until the driver asks for them.
//
// Read RFC 5961 section 3 (which RST a stack accepts) and section 9 (RST/ACK wars) and
// RFC 9293 section 3.10.7.1 (how a closed connection answers) first.
//
// They carry no options: RFC 7323 section 3.2 wants no timestamp on a RST. A
// connection that signs its segments (TCP-MD5, RFC 2385; TCP-AO, RFC 5925)
// ignores them, and ends by its own timers. Those for idle connections have DSCP
// and flow label 0, since sessions keep neither (our choice).
//
// A Queue is part of a shard, whose lock guards it. It refuses to know who owns a port,
// which hooks there are, and what else is due: what comes before a RST in time is for the
// caller to end first.
package resets
