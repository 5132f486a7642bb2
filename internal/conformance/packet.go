// The demands on single packets: headers, the TCP tracker, resets, ICMP messages,
// fragments, extension headers.

package conformance

var headerRows = []Row{
	{"H1", "RFC 3022 section 4.1", Rule, All, "Addresses, ports or identifiers, and their checksums change; nothing else does.", ""},
	{"H2", "RFC 3022 section 4.1", Rule, All, "An IPv4 UDP checksum of 0 stays 0.", ""},
	{"H3", "RFC 768, 8200", Rule, All, "A UDP checksum that comes to 0 is sent as FFFF; that of TCP and ICMP is not.", ""},
	{"H4", "RFC 1624", Should, All, "A damaged packet leaves as damaged as it came.", ""},
	{"H5", "RFC 9293", Should, All, "A segment with a wrong checksum changes no state.", ""},
	{"H6", "RFC 1812 section 5.3.1, RFC 4443 section 3.3", Must, Option, "A router counts the TTL down and answers packets that run out of it.", ""},
	{"H7", "RFC 6864", Must, All, "The identification of a packet that is no fragment and may not become one means nothing.", ""},
	{"H8", "RFC 6864 section 5.3.1", Must, All, "IPv4 fragments of several inside hosts get identifications that do not collide, one per datagram.", ""},
	{"H9", "RFC 8200 section 4.5, RFC 7739", Rule, All, "IPv6 fragments that share an outside address get identifications that do not collide.", ""},
	{"H10", "RFC 3022 section 4.1", Rule, All, "Traffic class, flow label, options, windows, urgent pointers and payloads are left alone.", ""},
	{"H11", "RFC 8200 section 8.1", Rule, All, "IPv6 checksums follow the final destination and the upper-layer protocol.", ""},
}

var trackerRows = []Row{
	{"K1", "RFC 7857 section 2", Ours, All, "Three segments establish a connection.", ""},
	{"K2", "RFC 9293", Ours, All, "Two SYNs that cross establish a connection.", ""},
	{"K3", "RFC 9293", Ours, All, "A SYN-ACK that was lost is repeated.", ""},
	{"K4", "RFC 9293", Ours, All, "Data flows for an hour after one end has closed.", ""},
	{"K5", "RFC 9293", Ours, All, "FINs may cross.", ""},
	{"K6", "RFC 9293", Ours, All, "FINs may be repeated.", ""},
	{"K7", "RFC 5961 section 3", Ours, All, "Only a RST that the receiver would accept ends a connection, in each state.", ""},
	{"K8", "RFC 7857 section 2.2", Ours, All, "A connection that goes on after a RST lives on.", ""},
	{"K9", "RFC 7857 section 2.2", Ours, All, "A connection that is silent after a RST ends in time.", ""},
	{"K10", "RFC 5961 section 4", Ours, All, "A SYN within a connection is challenged, and what follows is understood.", ""},
	{"K11", "RFC 9293", Ours, All, "A SYN opens a closed connection anew, with the same port and full times.", ""},
	{"K12", "RFC 7323", Ours, All, "Windows may be a gigabyte, and sequence numbers wrap.", ""},
	{"K13", "RFC 9293", Ours, All, "Segments that were acknowledged already pass.", ""},
	{"K14", "RFC 9293", Ours, All, "A keepalive prolongs a connection.", ""},
	{"K15", "RFC 4987", Ours, All, "A flood of SYNs has the short time only and hurts no established connection.", ""},
	{"K16", "RFC 7857 section 2", Ours, All, "A FIN outside the window closes nothing.", ""},
	{"K17", "RFC 9293", Ours, All, "A SYN-ACK with a wrong acknowledgment establishes nothing; the right one still does.", ""},
	{"K18", "RFC 5382 REQ-5", Ours, All, "Only established connections are reset for their silence.", ""},
	{"K19", "RFC 9293", Ours, All, "A refused connection is free soon.", ""},
	{"K20", "RFC 7413", Ours, All, "A SYN may carry data, acknowledged or not.", ""},
}

var resetRows = []Row{
	{"X1", "RFC 9293, RFC 5961 section 3", Rule, All, "A reset has the sequence number that its receiver expects, and shows no inside address outside.", ""},
	{"X2", "RFC 6864, RFC 9293", Rule, All, "A reset is a bare segment, is not translated again, and is counted.", ""},
	{"X3", "RFC 5961 section 3", Rule, All, "Where the peer has sent data that is not acknowledged, a second reset covers it.", ""},
	{"X4", "RFC 5961 section 9", Rule, All, "A challenge is answered with its own number.", ""},
	{"X5", "RFC 5961 section 9.3", Rule, All, "A RST that will be challenged clears nothing.", ""},
	{"X6", "RFC 9293", Rule, Option, "A segment without a connection can be answered by the reset that a closed port would send.", ""},
	{"X7", "RFC 5382 REQ-5", Rule, All, "Only established connections are reset, on demand.", ""},
	{"X8", "RFC 5382 REQ-5", Ours, All, "Resets are bounded, and the end of a million connections stalls nothing.", ""},
	{"X9", "RFC 5925, 2385", Rule, All, "Connections that sign their segments cannot be reset; the documentation says so.", ""},
	{"X10", "RFC 7857 section 2.2", Rule, Deviates, "A reset connection's port is free after its hold, not at once.", "Azure lets a new connection have the port of one that it has reset at once."},
	{"X11", "RFC 7323", Rule, All, "A reset needs no timestamp.", ""},
}

var messageRows = []Row{
	{"Q1", "RFC 5508 REQ-1", Rule, Option, "Identifiers have owners, like ports.", ""},
	{"Q2", "RFC 792, 4443", Rule, Option, "The queries are echo, and timestamp on demand.", ""},
	{"Q3", "RFC 792, 4443", Rule, Option, "Errors are types 3, 11 and 12, for IPv6 1 to 4; their flow is that of the quote reversed.", ""},
	{"Q4", "RFC 5508 REQ-4", Rule, Option, "A quote's addresses, ports and checksums are rewritten as far as it reaches.", ""},
	{"Q5", "RFC 1624", Rule, Option, "What changes within a quote changes the checksum around it accordingly.", ""},
	{"Q6", "RFC 792, 1812 section 4.3.2.3, RFC 4443", Rule, Option, "A quote must reach the ports; it is never cut or extended.", ""},
	{"Q7", "RFC 4884", Rule, Option, "Lengths, padding and extensions after a quote stay as they are.", ""},
	{"Q8", "RFC 5508 REQ-3, REQ-4", Rule, Option, "Errors that do not fit a flow are dropped; any router may send one that does.", ""},
	{"Q9", "RFC 5927 section 4.1", May, OutOfScope, "Quoted sequence numbers can be checked.", "The receiving host checks them; nothing here acts on an error."},
	{"Q10", "RFC 5508 REQ-6", Rule, All, "An error creates, prolongs and ends nothing.", ""},
	{"Q11", "RFC 1191, 8201", Rule, Option, "A path's MTU passes as it was told.", ""},
	{"Q12", "RFC 1812 section 4.3.2, RFC 4443 section 2.4", Rule, Option, "An own error quotes the packet as its receiver has sent it.", ""},
	{"Q13", "RFC 1812 section 4.3.2.7, RFC 4443 section 2.4", Must, All, "Errors, fragments, groups and impossible sources are never answered.", ""},
	{"Q14", "RFC 4890", Rule, Option, "Link-local control never crosses; errors that hosts need do.", ""},
	{"Q15", "RFC 5508 REQ-7", Rule, Option, "Errors between inside hosts are rewritten at both ends.", ""},
	{"Q16", "RFC 5508 REQ-8, RFC 6888 REQ-11, RFC 5461", Rule, All, "The code that refuses a flow can be chosen, silence too.", ""},
}

var fragmentRows = []Row{
	{"G1", "RFC 6146 section 3.4", Rule, Option, "What is known of a datagram is kept for at least two seconds.", ""},
	{"G2", "RFC 4787 REQ-14", Rule, Option, "Fragments before the first wait for it and share its fate.", ""},
	{"G3", "RFC 4787 REQ-14a", Rule, All, "Datagrams, their sources, waiting fragments and their bytes are bounded, and new ones yield to old.", ""},
	{"G4", "RFC 7857 section 7", Rule, Option, "A datagram counts once, by its first fragment.", ""},
	{"G5", "RFC 3128, 5722, 791", Rule, All, "Tiny and overlapping fragments are dropped; a copy costs nothing but itself.", ""},
	{"G6", "RFC 5722, 6946, 7112", Rule, All, "IPv6 fragments overlap never, stand alone when atomic, and begin with the whole chain.", ""},
	{"G7", "RFC 1624", Rule, Option, "A first fragment's checksum is updated without the rest.", ""},
	{"G8", "RFC 791, 8200", May, OutOfScope, "Datagrams can be put together and cut again.", "Fragments are followed virtually: each is translated as it is."},
	{"G9", "RFC 4787 REQ-14", Ours, Option, "Fragments find their datagram whichever instance and shard it belongs to.", ""},
	{"G10", "RFC 5508, 4787 REQ-9", Rule, Option, "Fragments of echoes are translated, those of errors never half.", ""},
	{"G11", "RFC 4963, 1858", Ours, All, "Attacks known by name find bounded memory and leave other packets alone.", ""},
}

var extensionRows = []Row{
	{"E1", "RFC 8200 section 4", Rule, All, "Extension headers of all kinds are walked.", ""},
	{"E2", "RFC 8200 section 4", Rule, All, "Headers end within the payload length.", ""},
	{"E3", "RFC 8504 section 5.3", Rule, All, "Chains are bounded.", ""},
	{"E4", "RFC 8200 section 4.1", Rule, All, "The order of extension headers is free, except that Hop-by-Hop is first and Fragment single.", ""},
	{"E5", "RFC 8200 section 4.4, RFC 5095", Rule, All, "A Routing header that is not used up is refused, one that is, skipped.", ""},
	{"E6", "RFC 8200 section 4.2", Rule, All, "Unknown Hop-by-Hop options are judged by their type, those for the destination not.", ""},
	{"E7", "RFC 4302, 4303", Rule, All, "AH and ESP cannot be translated; within UDP they can.", ""},
	{"E8", "RFC 8200 section 4.7", Rule, All, "Without an upper-layer header there is nothing to translate.", ""},
	{"E9", "RFC 8200", Rule, All, "The chain leaves as it came, within quotes too.", ""},
}
