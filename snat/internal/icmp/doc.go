// Package icmp reads ICMP and ICMPv6 messages, translates them, and makes errors for
// package snat. Nearly all of it are functions of a packet's bytes and of what the
// caller has found out about them.
//
// Terminology, used exactly so in names and comments:
//   - Message: an ICMP or ICMPv6 packet. Its [Kind] is what it is to a translator.
//   - Query: a request, or the reply to one, with an identifier in the place of a port.
//   - Error: a message about a packet that somebody has sent, which it quotes.
//   - [Quote]: that packet inside the error, as far as it is there. It is evidence, not
//     a packet: no length in it is trusted.
//   - [Report]: an error that the translator makes itself.
//   - [Outbox]: where what is made waits until the driver asks for it.
//
// # The way of a message
//
// [Rules.Classify] says what it is and whether it may cross. A query is rewritten like
// a datagram, by [RewriteQuery], once its session is known. An error is read by
// [Rules.Receive]; the addresses and ports of the quote name the session that it is
// about, whose other address and port [Quote.Translate] puts into the quote and the
// error. [Exchange] does the same where no session is needed, because an address is
// exchanged 1:1, and [Quote.TranslateFragment] for a quote without ports.
//
// A packet that is not forwarded may be told to its sender: [ProblemOf], or one of the
// reports by name, [Report.Answers], [Report.Build], and [Outbox.Report], which keeps
// the rate.
//
// # State and locks
//
// Only two types have state. An Outbox guards its own with a lock that is taken after
// any other. A [Rate] is guarded by whoever owns it. All else may be called
// concurrently on different packets.
//
// The package refuses to know sessions, routes, instances and ports as a resource.
//
// Read RFC 5508 first, then RFC 792, RFC 4443 and RFC 4884 for what stands where.
package icmp
