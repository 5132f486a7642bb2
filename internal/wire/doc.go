// Package wire reads and rewrites IP packets in place. [Parse] checks a packet's
// structure once; typed views over its bytes (IPv4, IPv6, TCP, UDP, ICMPv4,
// ICMPv6, Fragment) then read and write fields without further checks.
//
// It knows header layouts and checksum arithmetic. It refuses to know addresses
// as policy (martians, land), flows, NAT and time.
//
// Terminology, used exactly so in names and comments:
//   - View: a []byte type whose first byte is the first byte of a header. It
//     aliases the packet, so setters write through.
//   - Set: a setter stores a field and leaves every checksum alone.
//   - Rewrite: a setter that also keeps the checksum of its own header true by
//     RFC 1624 equation 3. It never recomputes, so damage stays visible to the
//     receiver exactly as it arrived.
//   - Delta: the change of a ones'-complement sum, computed once, applied to
//     the checksums of many packets.
//   - Upper layer: what follows the IPv4 header or the last IPv6 extension
//     header.
//
// [Segment], [Reset] and [ICMPError] describe packets that are made here, and build
// them.
//
// Accessors panic on bytes shorter than their header. After Parse returned OK no
// accessor of the packet's own headers panics, until the caller reslices or
// stores a new length, header length or data offset. Non-first fragments carry
// no transport header: the transport views are not to be used on them.
//
// Nothing in this package keeps state: all functions may be called concurrently
// on different packets.
//
// Parse judges more strictly than the RFCs ask where a NAT could not translate
// what it lets pass: ports of 0, TCP flags that no stack sends together, IPv4
// source routes, an IPv6 payload length of 0 even with no next header, and an
// Authentication Header are refused. It is as lenient as they ask for a header
// checksum of FFFF instead of 0000, reserved bits, options it does not know,
// UDP lengths short of the IP payload, and malformed TCP options.
//
// Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 7323 (window
// scale), RFC 768 (UDP), RFC 792 and RFC 4443 (ICMP), RFC 1071 and RFC 1624
// (checksums), RFC 1858, RFC 3128, RFC 6946 and RFC 7112 (fragments), RFC 2675
// (jumbograms), RFC 8504 (limits on extension headers).
package wire
