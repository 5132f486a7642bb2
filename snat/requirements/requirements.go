// Code generated from the register in internal/conformance; DO NOT EDIT.

// Package requirements is the list of what RFCs demand of a NAT, and what package snat
// makes of it. It is documentation only.
//
// The columns are the row's name; how strongly it is demanded, where a rule follows
// from the definition of a protocol, and ours is a measure of quality; and who meets
// it:
//   - all: every configuration.
//   - option: configurations that ask for it.
//   - azure: configurations that ask for it; presets of Azure differ on purpose.
//   - left out: none.
//
// Each row that is not left out has tests, named TestNAT_<name>.
//
// UDP (RFC 4787):
//
//	U1   MUST       azure    An inside socket has one outside port for every destination. (RFC 4787
//	                         REQ-1) Azure shares a TCP port among destinations and chooses per flow;
//	                         a UDP socket gets a further port where its own is another's.
//	U2   SHOULD     azure    All flows of an inside address leave from one outside address. (RFC 4787
//	                         REQ-2) Azure takes an instance's ports in order, wherever they are.
//	U3   MUST NOT   all      Two inside sockets share an outside port towards one destination. (RFC
//	                         4787 REQ-3)
//	U3a  SHOULD     azure    System ports become system ports, others stay above 1023. (RFC 4787
//	                         REQ-3a) Azure hands out no port below 1024.
//	U4   SHOULD     option   Even ports become even ports, odd ones odd. (RFC 4787 REQ-4)
//	U5   MUST NOT   all      A UDP mapping ends before two minutes of silence. (RFC 4787 REQ-5)
//	U5a  MAY        option   A well-known destination port may have a shorter time. (RFC 4787 REQ-5a)
//	U5b  MAY        all      The time of silence can be set. (RFC 4787 REQ-5b)
//	U5c  SHOULD     azure    The time of silence is five minutes unless it is set. (RFC 4787 REQ-5c)
//	                         Azure's is four.
//	U6   MUST       all      An outbound packet starts the time of silence anew. (RFC 4787 REQ-6)
//	U6a  MAY        option   Whether an inbound packet starts the time of silence anew can be chosen.
//	                         (RFC 4787 REQ-6)
//	U7   MUST       all      Inside addresses may overlap with each other, realm by realm, and with
//	                         outside ones. (RFC 4787 REQ-7)
//	U8   SHOULD     azure    A mapping admits packets from any remote, or from any port of those it
//	                         has sent to. (RFC 4787 REQ-8) Azure admits the very remote of each flow
//	                         only.
//	U8a  MAY        option   The filter can be chosen apart from the mapping. (RFC 4787 REQ-8a)
//	U9   MUST       azure    An inside host reaches another at its outside address. (RFC 4787 REQ-9)
//	                         An Azure instance does not reach its own load balancer's frontend.
//	U9a  MUST       option   An inside host that calls another by its outside address is seen with
//	                         its own, and filtered like one from outside. (RFC 4787 REQ-9a)
//	U10  SHOULD     all      Payloads are left alone: there are no application gateways. (RFC 4787
//	                         REQ-10)
//	U11  MUST       azure    Load and conflicts change neither the kind of mapping nor that of the
//	                         filter. (RFC 4787 REQ-11) Where Azure's UDP sockets share a port and
//	                         meet at a destination, one has a further port for it.
//	U12  MUST NOT   all      An ICMP message ends a mapping. (RFC 4787 REQ-12)
//	U12a SHOULD NOT option   ICMP errors are refused for the address of the router that sends them.
//	                         (RFC 4787 REQ-12a)
//	U12b SHOULD     option   Destination Unreachable is translated. (RFC 4787 REQ-12b)
//	U13  MUST       option   A packet too big for the next link that forbids fragments is answered by
//	                         an error that tells the MTU. (RFC 4787 REQ-13)
//	U13a MUST       option   A packet too big for the next link that allows fragments is cut, and the
//	                         pieces leave in order. (RFC 4787 REQ-13a)
//	U14  MUST       azure    Fragments are translated in whatever order they come. (RFC 4787 REQ-14)
//	                         Azure's NAT gateway carries none, nor do rules of a load balancer.
//	U14a MUST       all      Floods of fragments hurt neither whole packets nor fragments in order,
//	                         nor memory. (RFC 4787 REQ-14a)
//
// TCP (RFC 5382):
//
//	T1   MUST       azure    An inside TCP socket has one outside port for every destination. (RFC
//	                         5382 REQ-1) Azure chooses per flow, so that a port serves many
//	                         destinations.
//	T2   MUST       all      Every sequence of segments that TCP allows passes. (RFC 5382 REQ-2)
//	T2a  MUST       all      A connection that both ends open at once passes. (RFC 5382 REQ-2)
//	T3   SHOULD     azure    The filter of TCP is chosen apart from that of UDP, and may admit any
//	                         remote. (RFC 5382 REQ-3) Azure admits the very remote of each flow only.
//	T4   MUST NOT   option   An unsolicited SYN is answered within six seconds, nor at all if its
//	                         connection is opened from inside meanwhile. (RFC 5382 REQ-4)
//	T4a  MUST       all      An unsolicited SYN is never answered where policy is silence, and SYNs
//	                         that wait are bounded. (RFC 5382 REQ-4)
//	T5   MUST NOT   azure    Established connections end before two hours and four minutes of
//	                         silence, opening and closing ones before four minutes. (RFC 5382 REQ-5)
//	                         Azure's time is four minutes, and can be raised.
//	T5a  MAY        all      The times of TCP can be set. (RFC 5382 REQ-5)
//	T5n  MAY        all      What happens to segments without a connection, and to connections ended
//	                         for their silence, is chosen: drop or reset. (RFC 5382 REQ-5)
//	T6   SHOULD     all      TCP payloads and sequence numbers are left alone. (RFC 5382 REQ-6)
//	T7   MUST NOT   all      Two connections with one remote share an outside port. (RFC 5382 REQ-7)
//	T8   MUST       azure    TCP connections work between inside hosts by their outside addresses.
//	                         (RFC 5382 REQ-8) An Azure instance does not reach its own load
//	                         balancer's frontend.
//	T9   SHOULD     option   Destination Unreachable is translated for TCP. (RFC 5382 REQ-9)
//	T10  MUST NOT   all      An ICMP message ends a connection or its mapping. (RFC 5382 REQ-10)
//	T11  MUST       all      Flags move a connection's state only in segments that fit its windows;
//	                         SACK options are left alone. (RFC 5382 section 9)
//
// ICMP (RFC 5508):
//
//	I1   MUST       option   Queries of the inside and their replies pass. (RFC 5508 REQ-1)
//	I1a  SHOULD     option   A query identifier has one outside identifier for every destination.
//	                         (RFC 5508 REQ-1)
//	I2   MUST NOT   option   A query's mapping ends before sixty seconds. (RFC 5508 REQ-2)
//	I3   SHOULD     all      An error with a wrong checksum is dropped. (RFC 5508 REQ-3)
//	I3a  SHOULD     all      An error that quotes an IPv4 header with a wrong checksum is dropped.
//	                         (RFC 5508 REQ-3a)
//	I3b  MUST       option   Options in a quoted IPv4 header are stepped over. (RFC 5508 REQ-3b)
//	I3c  SHOULD NOT all      The transport checksum of a quote is judged. (RFC 5508 REQ-3c)
//	I3d  MUST       option   What follows the quote, padding and extensions, is left alone. (RFC 5508
//	                         REQ-3d, RFC 4884)
//	I4   MUST       option   An error from outside reaches the inside host with its own packet
//	                         quoted, or is dropped if there is no flow. (RFC 5508 REQ-4)
//	I5   MUST       option   An error from inside quotes the packet as the outside has sent it. (RFC
//	                         5508 REQ-5)
//	I5c  MUST       option   An error of an inside router leaves with an outside address. (RFC 5508
//	                         REQ-5c)
//	I6   MUST NOT   all      An error prolongs or ends the flow that it quotes. (RFC 5508 REQ-6)
//	I7   MUST       option   Queries and errors pass between inside hosts by their outside addresses.
//	                         (RFC 5508 REQ-7)
//	I8   SHOULD     azure    A refused flow is answered by an error. (RFC 5508 REQ-8) Azure refuses
//	                         in silence.
//	I9   MAY        option   Own ICMP messages can be switched off for each side. (RFC 5508 REQ-9)
//	I10a MUST       option   Destination Unreachable, Time Exceeded and Echo are supported. (RFC 5508
//	                         REQ-10a)
//	I10b MAY        option   Parameter Problem is translated, Timestamp on demand; Redirect and
//	                         router messages never cross. (RFC 5508 REQ-10b)
//	I10c SHOULD NOT all      Source Quench and Information messages are supported. (RFC 5508 REQ-10c)
//	I10d SHOULD     option   An own error has the DSCP of the packet it answers. (RFC 5508 REQ-10d)
//	I10e SHOULD     all      Packets that no router may answer are not answered. (RFC 5508 REQ-10e,
//	                         RFC 1812)
//	I10f SHOULD     option   Own errors are limited by rate and burst. (RFC 5508 REQ-10f, RFC 4443)
//	I11  MAY        all      Other ICMP messages are dropped. (RFC 5508 REQ-11)
//
// Updates (RFC 7857):
//
//	P1   SHOULD     all      TCP connections are followed through opening, open, closing and reset.
//	                         (RFC 7857 section 2)
//	P2a  SHOULD     all      Opening and closing have times of their own. (RFC 7857 section 2.1)
//	P2b  MAY        all      The times of opening and closing may be set below four minutes. (RFC
//	                         7857 section 2.1)
//	P2c  MUST       all      A RST of a flow is translated and forwarded. (RFC 7857 section 2.2)
//	P2d  SHOULD     azure    A connection is kept for four minutes after a RST, and lives on if it
//	                         goes on. (RFC 7857 section 2.2) Azure frees the port after 15 or 16
//	                         seconds.
//	P2e  MUST       all      A RST that does not fit the connection changes nothing. (RFC 7857
//	                         section 2.2)
//	P3   MAY        all      An outside port may serve several inside sockets if their destinations
//	                         differ. (RFC 7857 section 3)
//	P4   SHOULD     option   Where flows of an inside address keep to one outside address, new ones
//	                         are refused when it is full, or move on by choice. (RFC 7857 section 4)
//	P5   SHOULD     option   UDP and TCP have mappings of their own. (RFC 7857 section 5)
//	P6   SHOULD     all      A mapping of one protocol admits nothing of another. (RFC 7857 section
//	                         6)
//	P7   SHOULD NOT all      A packet that is refused prolongs a mapping. (RFC 7857 section 7)
//	P7a  SHOULD NOT all      A RST or an error that answers an inbound packet prolongs a mapping.
//	                         (RFC 7857 section 7.1)
//	P8   MAY        option   Preserving parity can be left off. (RFC 7857 section 8)
//	P9   SHOULD     option   A port that has to change is chosen at random. (RFC 7857 section 9)
//	P10  SHOULD     all      IPv4 identifications of fragments are unique. (RFC 7857 section 10)
//	P11  MAY        option   An ICMP mapping is free with its last session. (RFC 7857 section 11)
//	P12  MUST       option   Errors between inside hosts need no query mapping. (RFC 7857 section 12)
//
// Carrier-grade NAT (RFC 6888):
//
//	C1   MUST       option   The demands on UDP, TCP and ICMP hold for carriers. (RFC 6888 REQ-1)
//	C2   MUST       azure    All flows of a subscriber leave from one outside address, whatever the
//	                         protocol. (RFC 6888 REQ-2) Azure takes an instance's ports in order,
//	                         wherever they are.
//	C3   MUST       all      The pool may have any size and need not be contiguous. (RFC 6888 REQ-3)
//	C4   MUST       option   A subscriber's ports and the rate of new ones can be limited. (RFC 6888
//	                         REQ-4)
//	C5   SHOULD     option   A subscriber's share of memory can be limited. (RFC 6888 REQ-5)
//	C6   MUST       option   Given destinations can be exempt from translation. (RFC 6888 REQ-6)
//	C7   SHOULD     azure    A mapping admits packets from any remote. (RFC 6888 REQ-7) Azure admits
//	                         the very remote of each flow only.
//	C8   SHOULD     azure    A port is not used again for two minutes after it has been freed. (RFC
//	                         6888 REQ-8) Azure keeps it from its last destination only, for a time
//	                         that depends on how the flow ended.
//	C9   MUST       left out Subscribers can ask for mappings. (RFC 6888 REQ-9) The Port Control
//	                         Protocol is a control plane; simulations configure the translator.
//	C10  SHOULD     option   The translator can be watched and managed. (RFC 6888 REQ-10)
//	C11  MUST       all      Lack of ports or memory refuses new flows, tells about it, and never
//	                         ends old ones. (RFC 6888 REQ-11)
//	C12  SHOULD NOT all      Destinations are logged unasked. (RFC 6888 REQ-12)
//	C13  SHOULD     all      Every port can be used. (RFC 6888 REQ-13)
//	C14  SHOULD     option   Ports can be given out such that logs are short. (RFC 6888 REQ-14)
//	C15  SHOULD     all      Ports are hard to guess where they are chosen at random. (RFC 6888
//	                         REQ-15)
//
// NAT64 (RFC 6146):
//
//	N1   SHOULD     left out UDP sessions last five minutes and their binding as long as they do.
//	                         (RFC 6146 section 3.5.1) Nothing here translates between IPv4 and IPv6.
//	N2   rule       left out TCP sessions follow the state machine of stateful NAT64. (RFC 6146
//	                         section 3.5.2) Nothing here translates between IPv4 and IPv6. The
//	                         tracker is that of group K.
//	N3   MUST       left out A SYN that comes from the IPv4 side first is kept for six seconds. (RFC
//	                         6146 section 3.5.2) Nothing here translates between IPv4 and IPv6. T4 is
//	                         the same among equals.
//	N4   SHOULD     left out An established session that falls silent is probed before it ends. (RFC
//	                         6146 section 3.5.2) Nothing here translates between IPv4 and IPv6. Azure
//	                         resets idle connections instead (group X).
//	N5   SHOULD     left out Query sessions last sixty seconds. (RFC 6146 section 3.5.3) Nothing here
//	                         translates between IPv4 and IPv6. I2 is the same among equals.
//	N6   MUST       left out Fragments in any order are handled with bounded memory. (RFC 6146
//	                         section 3.4) Nothing here translates between IPv4 and IPv6. U14 and
//	                         group G are the same among equals.
//	N7   MUST       all      An error whose quote cannot be told, or quotes an error, is dropped in
//	                         silence. (RFC 6146 section 3.4)
//	N8   MUST       left out Packets cannot loop through the translation prefix. (RFC 6146 section
//	                         3.5) Nothing here translates between IPv4 and IPv6.
//
// Headers (RFC 3022, 6864, 1812, 8200):
//
//	H1   rule       all      Addresses, ports or identifiers, and their checksums change; nothing
//	                         else does. (RFC 3022 section 4.1)
//	H2   rule       all      An IPv4 UDP checksum of 0 stays 0. (RFC 3022 section 4.1)
//	H3   rule       all      A UDP checksum that comes to 0 is sent as FFFF; that of TCP and ICMP is
//	                         not. (RFC 768, 8200)
//	H4   SHOULD     all      A damaged packet leaves as damaged as it came. (RFC 1624)
//	H5   SHOULD     all      A segment with a wrong checksum changes no state. (RFC 9293)
//	H6   MUST       option   A router counts the TTL down and answers packets that run out of it.
//	                         (RFC 1812 section 5.3.1, RFC 4443 section 3.3)
//	H7   MUST       all      The identification of a packet that is no fragment and may not become
//	                         one means nothing. (RFC 6864)
//	H8   MUST       all      IPv4 fragments of several inside hosts get identifications that do not
//	                         collide, one per datagram. (RFC 6864 section 5.3.1)
//	H9   rule       all      IPv6 fragments that share an outside address get identifications that do
//	                         not collide. (RFC 8200 section 4.5, RFC 7739)
//	H10  rule       all      Traffic class, flow label, options, windows, urgent pointers and
//	                         payloads are left alone. (RFC 3022 section 4.1)
//	H11  rule       all      IPv6 checksums follow the final destination and the upper-layer
//	                         protocol. (RFC 8200 section 8.1)
//
// Deterministic mapping (RFC 7422):
//
//	D1   rule       option   Ports are shared out by the sizes of both ranges, less reserved and
//	                         dynamic ones. (RFC 7422)
//	D2   SHOULD     option   The ports of a host, and the host of a port, can be computed. (RFC 7422)
//	D3   MUST       option   A host's own range is used while it lasts, at random, and is not logged.
//	                         (RFC 7422)
//	D4   MUST       option   Blocks beyond a host's own range come from the dynamic pool, up to a
//	                         limit, and each is logged. (RFC 7422)
//	D5   MUST       option   The parameters are logged when they change and daily. (RFC 7422)
//	D6   rule       option   Whatever the algorithm, ranges are disjoint and can be reversed. (RFC
//	                         7422)
//
// Logs (RFC 8158):
//
//	L1   SHOULD     option   Creation and end of sessions, bindings and blocks, and exhaustion, are
//	                         events. (RFC 8158)
//	L2   MUST       option   An event has the fields that its kind demands. (RFC 8158)
//	L3   SHOULD NOT all      Events tell destinations, or the same fact twice, unasked. (RFC 8158)
//	L4   SHOULD     all      Events of exhaustion and quotas are limited by rate; counters are exact.
//	                         (RFC 8158)
//	L5   ours       all      Beginnings and ends balance, and a port never has two owners by its log.
//	                         (RFC 8158)
//
// Ports (RFC 6056):
//
//	R1   SHOULD     option   Ports that are not preserved are obfuscated, by choice. (RFC 6056
//	                         section 4)
//	R2   SHOULD     all      All ports but those in use for something else can be given out. (RFC
//	                         6056 section 3.2)
//	R3   ours       all      An excluded port is never given out. (RFC 6056 section 3.2)
//	R4   ours       all      Ports chosen at random are not predictable. (RFC 6056)
//	R5   ours       all      The generator is keyed, and one owner's choices tell nothing of
//	                         another's. (RFC 6056 section 3.3)
//	R6   ours       all      A port is refused if and only if none may be used. (RFC 6888 REQ-13)
//	R7   ours       all      No two live flows share an outside port and a remote. (RFC 4787 REQ-3)
//	R8   ours       option   Parity and range are kept while there is such a port. (RFC 4787 REQ-4)
//	R9   ours       all      Freed ports wait in order, for a time and up to a number. (RFC 6888
//	                         REQ-8)
//	R10  ours       option   A subscriber gets another block only when the first is full, and returns
//	                         it when it is empty. (RFC 6888 REQ-14)
//	R11  ours       all      A subscriber's hunger takes nothing from the live flows of others. (RFC
//	                         6888 REQ-4)
//	R12  ours       all      Flows that begin at once on many processors get different ports, and
//	                         copies of a first packet one. (RFC 4787 REQ-3)
//	R13  ours       all      The pool can change, even to nothing, while flows live. (RFC 6888 REQ-3)
//	R14  ours       all      TCP, UDP and ICMP have numbers of their own, and none is 0. (RFC 7857
//	                         section 5)
//
// The TCP tracker (RFC 7857, 9293, 5961):
//
//	K1   ours       all      Three segments establish a connection. (RFC 7857 section 2)
//	K2   ours       all      Two SYNs that cross establish a connection. (RFC 9293)
//	K3   ours       all      A SYN-ACK that was lost is repeated. (RFC 9293)
//	K4   ours       all      Data flows for an hour after one end has closed. (RFC 9293)
//	K5   ours       all      FINs may cross. (RFC 9293)
//	K6   ours       all      FINs may be repeated. (RFC 9293)
//	K7   ours       all      Only a RST that the receiver would accept ends a connection, in each
//	                         state. (RFC 5961 section 3)
//	K8   ours       all      A connection that goes on after a RST lives on. (RFC 7857 section 2.2)
//	K9   ours       all      A connection that is silent after a RST ends in time. (RFC 7857 section
//	                         2.2)
//	K10  ours       all      A SYN within a connection is challenged, and what follows is understood.
//	                         (RFC 5961 section 4)
//	K11  ours       all      A SYN opens a closed connection anew, with the same port and full times.
//	                         (RFC 9293)
//	K12  ours       all      Windows may be a gigabyte, and sequence numbers wrap. (RFC 7323)
//	K13  ours       all      Segments that were acknowledged already pass. (RFC 9293)
//	K14  ours       all      A keepalive prolongs a connection. (RFC 9293)
//	K15  ours       all      A flood of SYNs has the short time only and hurts no established
//	                         connection. (RFC 4987)
//	K16  ours       all      A FIN outside the window closes nothing. (RFC 7857 section 2)
//	K17  ours       all      A SYN-ACK with a wrong acknowledgment establishes nothing; the right one
//	                         still does. (RFC 9293)
//	K18  ours       all      Only established connections are reset for their silence. (RFC 5382
//	                         REQ-5)
//	K19  ours       all      A refused connection is free soon. (RFC 9293)
//	K20  ours       all      A SYN may carry data, acknowledged or not. (RFC 7413)
//
// Generated resets (RFC 9293, 5961):
//
//	X1   rule       all      A reset has the sequence number that its receiver expects, and shows no
//	                         inside address outside. (RFC 9293, RFC 5961 section 3)
//	X2   rule       all      A reset is a bare segment, is not translated again, and is counted. (RFC
//	                         6864, RFC 9293)
//	X3   rule       all      Where the peer has sent data that is not acknowledged, a second reset
//	                         covers it. (RFC 5961 section 3)
//	X4   rule       all      A challenge is answered with its own number. (RFC 5961 section 9)
//	X5   rule       all      A RST that will be challenged clears nothing. (RFC 5961 section 9.3)
//	X6   rule       option   A segment without a connection can be answered by the reset that a
//	                         closed port would send. (RFC 9293)
//	X7   rule       all      Only established connections are reset, on demand. (RFC 5382 REQ-5)
//	X8   ours       all      Resets are bounded, and the end of a million connections stalls nothing.
//	                         (RFC 5382 REQ-5)
//	X9   rule       all      Connections that sign their segments cannot be reset; the documentation
//	                         says so. (RFC 5925, 2385)
//	X10  rule       azure    A reset connection's port is free after its hold, not at once. (RFC 7857
//	                         section 2.2) Azure lets a new connection have the port of one that it
//	                         has reset at once.
//	X11  rule       all      A reset needs no timestamp. (RFC 7323)
//
// ICMP messages (RFC 792, 4443, 4884, 1812):
//
//	Q1   rule       option   Identifiers have owners, like ports. (RFC 5508 REQ-1)
//	Q2   rule       option   The queries are echo, and timestamp on demand. (RFC 792, 4443)
//	Q3   rule       option   Errors are types 3, 11 and 12, for IPv6 1 to 4; their flow is that of
//	                         the quote reversed. (RFC 792, 4443)
//	Q4   rule       option   A quote's addresses, ports and checksums are rewritten as far as it
//	                         reaches. (RFC 5508 REQ-4)
//	Q5   rule       option   What changes within a quote changes the checksum around it accordingly.
//	                         (RFC 1624)
//	Q6   rule       option   A quote must reach the ports; it is never cut or extended. (RFC 792,
//	                         1812 section 4.3.2.3, RFC 4443)
//	Q7   rule       option   Lengths, padding and extensions after a quote stay as they are. (RFC
//	                         4884)
//	Q8   rule       option   Errors that do not fit a flow are dropped; any router may send one that
//	                         does. (RFC 5508 REQ-3, REQ-4)
//	Q9   MAY        left out Quoted sequence numbers can be checked. (RFC 5927 section 4.1) The
//	                         receiving host checks them; nothing here acts on an error.
//	Q10  rule       all      An error creates, prolongs and ends nothing. (RFC 5508 REQ-6)
//	Q11  rule       option   A path's MTU passes as it was told. (RFC 1191, 8201)
//	Q12  rule       option   An own error quotes the packet as its receiver has sent it. (RFC 1812
//	                         section 4.3.2, RFC 4443 section 2.4)
//	Q13  MUST       all      Errors, fragments, groups and impossible sources are never answered.
//	                         (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4)
//	Q14  rule       option   Link-local control never crosses; errors that hosts need do. (RFC 4890)
//	Q15  rule       option   Errors between inside hosts are rewritten at both ends. (RFC 5508 REQ-7)
//	Q16  rule       all      The code that refuses a flow can be chosen, silence too. (RFC 5508
//	                         REQ-8, RFC 6888 REQ-11, RFC 5461)
//
// Fragments (RFC 4787, 6864, 8200, 5722, 6946):
//
//	G1   rule       option   What is known of a datagram is kept for at least two seconds. (RFC 6146
//	                         section 3.4)
//	G2   rule       option   Fragments before the first wait for it and share its fate. (RFC 4787
//	                         REQ-14)
//	G3   rule       all      Datagrams, their sources, waiting fragments and their bytes are bounded,
//	                         and new ones yield to old. (RFC 4787 REQ-14a)
//	G4   rule       option   A datagram counts once, by its first fragment. (RFC 7857 section 7)
//	G5   rule       all      Tiny and overlapping fragments are dropped; a copy costs nothing but
//	                         itself. (RFC 3128, 5722, 791)
//	G6   rule       all      IPv6 fragments overlap never, stand alone when atomic, and begin with
//	                         the whole chain. (RFC 5722, 6946, 7112)
//	G7   rule       option   A first fragment's checksum is updated without the rest. (RFC 1624)
//	G8   MAY        left out Datagrams can be put together and cut again. (RFC 791, 8200) Fragments
//	                         are followed virtually: each is translated as it is.
//	G9   ours       option   Fragments find their datagram whichever instance and shard it belongs
//	                         to. (RFC 4787 REQ-14)
//	G10  rule       option   Fragments of echoes are translated, those of errors never half. (RFC
//	                         5508, 4787 REQ-9)
//	G11  ours       all      Attacks known by name find bounded memory and leave other packets alone.
//	                         (RFC 4963, 1858)
//
// Extension headers (RFC 8200):
//
//	E1   rule       all      Extension headers of all kinds are walked. (RFC 8200 section 4)
//	E2   rule       all      Headers end within the payload length. (RFC 8200 section 4)
//	E3   rule       all      Chains are bounded. (RFC 8504 section 5.3)
//	E4   rule       all      The order of extension headers is free, except that Hop-by-Hop is first
//	                         and Fragment single. (RFC 8200 section 4.1)
//	E5   rule       all      A Routing header that is not used up is refused, one that is, skipped.
//	                         (RFC 8200 section 4.4, RFC 5095)
//	E6   rule       all      Unknown Hop-by-Hop options are judged by their type, those for the
//	                         destination not. (RFC 8200 section 4.2)
//	E7   rule       all      AH and ESP cannot be translated; within UDP they can. (RFC 4302, 4303)
//	E8   rule       all      Without an upper-layer header there is nothing to translate. (RFC 8200
//	                         section 4.7)
//	E9   rule       all      The chain leaves as it came, within quotes too. (RFC 8200)
//
// Malformed and hostile packets:
//
//	M1   rule       all      A buffer of no or one byte is dropped. (RFC 791, 8200)
//	M2   rule       all      Another version than 4 and 6 is dropped. (RFC 791, 8200)
//	M3   rule       all      A buffer shorter than the IP header is dropped. (RFC 791, 8200)
//	M4   rule       all      An IPv4 header length below 20 bytes is dropped. (RFC 791)
//	M5   rule       all      An IPv4 header length beyond the buffer is dropped. (RFC 791)
//	M6   rule       all      An IPv4 packet longer than the buffer is dropped. (RFC 791)
//	M7   rule       all      An IPv4 packet shorter than its header is dropped. (RFC 791)
//	M8   rule       all      Bytes after the packet are left alone and belong to no checksum. (RFC
//	                         894)
//	M9   MUST       all      A wrong IPv4 header checksum is not repaired: the packet is dropped.
//	                         (RFC 1812 section 5.2.2)
//	M10  rule       all      An IPv4 checksum of FFFF for 0 is right, and leaves as 0. (RFC 1624)
//	M11  MUST       option   A router drops a packet that arrives with a TTL of 0 or 1, and answers
//	                         it; what is no hop drops it at 0 only, and leaves the TTL of others
//	                         alone. (RFC 1812 section 5.3.1)
//	M12  rule       all      The reserved IPv4 flag is left alone. (RFC 791)
//	M13  rule       all      A fragment may forbid fragments. (RFC 791)
//	M14  rule       all      A fragment that is not the last has a multiple of 8 bytes. (RFC 791,
//	                         8200)
//	M15  rule       all      A fragment that ends beyond 65,535 bytes is dropped. (RFC 791, 8200)
//	M16  rule       all      A fragment without data is dropped. (RFC 791, 8200)
//	M17  rule       all      A first fragment without the whole transport header is dropped. (RFC
//	                         1858, 7112)
//	M18  rule       all      A fragment of TCP that begins inside the header is dropped. (RFC 3128)
//	M19  MUST       all      Datagrams whose fragments overlap are dropped entirely. (RFC 5722)
//	M20  rule       all      Datagrams with two first fragments that differ are dropped entirely.
//	                         (RFC 1858)
//	M21  rule       all      Source routes are dropped. (RFC 7126)
//	M22  rule       all      Malformed IPv4 options are dropped. (RFC 791)
//	M23  rule       all      Harmless IPv4 options pass as they are. (RFC 791)
//	M24  rule       all      A packet from an address to itself is dropped. (RFC 1812)
//	M25  SHOULD     all      A packet from an address that is no host's is dropped. (RFC 1812 section
//	                         5.3.7, RFC 6890)
//	M26  SHOULD     all      A packet to an address that is no host's is dropped in silence. (RFC
//	                         1812 section 5.3.7, RFC 6890)
//	M27  MUST NOT   all      Link-local addresses cross. (RFC 3927, 4291)
//	M28  rule       all      An inside source that belongs to nobody is dropped. (RFC 2827)
//	M29  rule       all      An inside packet from an outside address of ours is dropped. (RFC 2827)
//	M30  rule       all      An outside packet from an outside address of ours is dropped. (RFC 2827)
//	M31  rule       all      An outside packet from an inside address is dropped. (RFC 2827)
//	M32  rule       all      An outside packet to an address that is not ours is dropped. (RFC 1812)
//	M33  rule       all      Protocols without translation are dropped. (RFC 3022)
//	M34  rule       all      Packets within packets are dropped. (RFC 2003, 4213)
//	M35  rule       all      ICMP of the other family is dropped. (RFC 792, 4443)
//	M36  rule       all      A TCP segment shorter than its header is dropped. (RFC 9293)
//	M37  rule       all      A TCP data offset below 5 is dropped. (RFC 9293)
//	M38  rule       all      A TCP data offset beyond the segment is dropped. (RFC 9293)
//	M39  rule       all      A wrong TCP checksum passes as wrong, and opens and changes nothing.
//	                         (RFC 9293)
//	M40  rule       all      Combinations of flags that TCP never sends are dropped. (RFC 9293)
//	M41  rule       all      SYNs with data, congestion or reserved bits pass. (RFC 7413, 3168)
//	M42  rule       all      Malformed TCP options pass and are not believed. (RFC 9293)
//	M43  MUST       all      A window scale above 14 counts as 14. (RFC 7323 section 2.3)
//	M44  rule       all      Port 0 at either end is dropped. (RFC 768, 9293)
//	M45  rule       all      A segment without a connection opens none, unless that is asked for.
//	                         (RFC 5382 REQ-5)
//	M46  MUST       all      A RST without a connection is never answered. (RFC 9293)
//	M47  rule       all      A SYN-ACK without a connection opens none. (RFC 9293)
//	M48  rule       all      A UDP datagram shorter than its header is dropped. (RFC 768)
//	M49  rule       all      A UDP length below 8 is dropped. (RFC 768)
//	M50  rule       all      A UDP length beyond the packet is dropped. (RFC 768)
//	M51  rule       all      Bytes after the UDP length pass and belong to no checksum. (RFC 9868)
//	M52  rule       all      UDP over IPv4 without a checksum passes so. (RFC 768)
//	M53  rule       all      UDP over IPv6 without a checksum is dropped. (RFC 8200 section 8.1, RFC
//	                         6936)
//	M54  rule       all      A wrong UDP checksum passes as wrong. (RFC 768)
//	M55  rule       all      An ICMP message shorter than its header is dropped. (RFC 792)
//	M56  SHOULD     all      An ICMP error with a wrong checksum is dropped. (RFC 5508 REQ-3)
//	M57  rule       all      An ICMP error whose quote does not reach the ports is dropped. (RFC 5508
//	                         REQ-4)
//	M58  SHOULD     all      An ICMP error whose quoted header is wrong is dropped. (RFC 5508 REQ-3a)
//	M59  SHOULD     all      An ICMP error about a flow that never was, or to another than its
//	                         sender, is dropped. (RFC 5508 REQ-4)
//	M60  MUST       all      An ICMP error that quotes an error is dropped. (RFC 6146 section 3.4)
//	M61  rule       all      An ICMP error that quotes a later fragment of an unknown datagram is
//	                         dropped. (RFC 5508 REQ-4)
//	M62  rule       all      A reply without a query, or a query to a frontend, is dropped. (RFC 5508
//	                         REQ-1)
//	M63  rule       all      Messages between neighbors and routers never cross. (RFC 5508 REQ-10c,
//	                         RFC 4890)
//	M64  MUST NOT   all      Packets to broadcast addresses are forwarded. (RFC 2644)
//	M65  rule       all      An IPv6 payload longer than the buffer is dropped. (RFC 8200)
//	M66  rule       all      An IPv6 payload length of 0 is dropped, and so are jumbograms. (RFC
//	                         8200, 2675)
//	M67  rule       all      Chains of extension headers out of order, out of bounds or too long are
//	                         dropped. (RFC 8200 section 4)
//	M68  MUST       all      Routing headers that are not used up are dropped. (RFC 5095)
//	M69  MUST       option   A packet too big for the next link is answered with the MTU. (RFC 1191,
//	                         8201)
//	M70  ours       all      A host that calls itself by its outside address makes no loop. (RFC 4787
//	                         REQ-9)
//	M71  ours       all      Copies of a first packet make one flow. (RFC 4787 REQ-3)
//	M72  ours       all      A flood of SYNs from one subscriber takes nothing from others. (RFC 6888
//	                         REQ-4)
//	M73  ours       all      A scan of all ports from outside leaves nothing behind. (RFC 4787 REQ-8)
//	M74  rule       left out Malformed VXLAN and Geneve packets are dropped. (RFC 7348, 8926) The
//	                         doors take IP packets: nothing here takes them out of tunnels.
//
// Checksum vectors (RFC 1624):
//
//	V1   rule       all      The example of the RFC. (RFC 1624 section 4)
//	V2   rule       all      An IPv4 TTL counts down. (RFC 1624)
//	V3   rule       all      An IPv4 TTL counts down where the update of RFC 1141 fails. (RFC 1624)
//	V4   rule       all      An IPv4 source changes. (RFC 1624)
//	V5   rule       all      UDP over IPv4 with an odd payload. (RFC 768)
//	V6   rule       all      UDP over IPv4 whose checksum comes to 0. (RFC 768)
//	V7   rule       all      The way back from FFFF. (RFC 768)
//	V8   rule       all      UDP over IPv4 without a checksum. (RFC 768)
//	V9   rule       all      A SYN with options. (RFC 9293)
//	V10  rule       all      TCP whose checksum comes to 0 and stays so. (RFC 9293)
//	V11  rule       all      UDP over IPv6. (RFC 8200 section 8.1)
//	V11b rule       all      UDP over IPv6 whose checksum comes to 0. (RFC 8200 section 8.1)
//	V12  rule       all      TCP over IPv6. (RFC 8200 section 8.1)
//	V13  rule       all      An echo over IPv4, whose checksum knows no address. (RFC 792)
//	V14  rule       all      An echo over IPv6, whose checksum knows them. (RFC 4443 section 2.3)
//	V15  rule       all      A TCP quote cut before its checksum. (RFC 5508 REQ-4)
//	V16  rule       all      A whole UDP quote over IPv4. (RFC 5508 REQ-4)
//	V17  rule       all      A whole UDP quote over IPv6. (RFC 5508 REQ-4)
//	V19  rule       all      A prefix translation that needs no update. (RFC 6296)
//	V20  rule       all      The corner where the update gives negative zero. (RFC 1624)
//	V21  rule       all      A first fragment, without the rest. (RFC 1624)
//	V22  rule       all      A sum of words. (RFC 1071)
//	V23  rule       all      A header that verifies. (RFC 1071)
//	V24  rule       all      Odd lengths. (RFC 1071)
package requirements
