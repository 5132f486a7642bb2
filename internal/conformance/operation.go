// The demands on operating a NAT: carriers, ports, logs; and NAT64, which is not
// built (RFC 6888, 6146, 7422, 8158, 6056).

package conformance

// noNAT64 is why rows of RFC 6146 are left out.
const noNAT64 = "Nothing here translates between IPv4 and IPv6."

var carrierRows = []Row{
	{"C1", "RFC 6888 REQ-1", Must, Option, "The demands on UDP, TCP and ICMP hold for carriers.", ""},
	{"C2", "RFC 6888 REQ-2", Must, Deviates, "All flows of a subscriber leave from one outside address, whatever the protocol.", "Azure takes an instance's ports in order, wherever they are."},
	{"C3", "RFC 6888 REQ-3", Must, All, "The pool may have any size and need not be contiguous.", ""},
	{"C4", "RFC 6888 REQ-4", Must, Option, "A subscriber's ports and the rate of new ones can be limited.", ""},
	{"C5", "RFC 6888 REQ-5", Should, Option, "A subscriber's share of memory can be limited.", ""},
	{"C6", "RFC 6888 REQ-6", Must, Option, "Given destinations can be exempt from translation.", ""},
	{"C7", "RFC 6888 REQ-7", Should, Deviates, "A mapping admits packets from any remote.", "Azure admits the very remote of each flow only."},
	{"C8", "RFC 6888 REQ-8", Should, Deviates, "A port is not used again for two minutes after it has been freed.", "Azure keeps it from its last destination only, for a time that depends on how the flow ended."},
	{"C9", "RFC 6888 REQ-9", Must, OutOfScope, "Subscribers can ask for mappings.", "The Port Control Protocol is a control plane; simulations configure the translator."},
	{"C10", "RFC 6888 REQ-10", Should, Option, "The translator can be watched and managed.", ""},
	{"C11", "RFC 6888 REQ-11", Must, All, "Lack of ports or memory refuses new flows, tells about it, and never ends old ones.", ""},
	{"C12", "RFC 6888 REQ-12", ShouldNot, All, "Destinations are logged unasked.", ""},
	{"C13", "RFC 6888 REQ-13", Should, All, "Every port can be used.", ""},
	{"C14", "RFC 6888 REQ-14", Should, Option, "Ports can be given out such that logs are short.", ""},
	{"C15", "RFC 6888 REQ-15", Should, All, "Ports are hard to guess where they are chosen at random.", ""},
}

var nat64Rows = []Row{
	{"N1", "RFC 6146 section 3.5.1", Should, OutOfScope, "UDP sessions last five minutes and their binding as long as they do.", noNAT64},
	{"N2", "RFC 6146 section 3.5.2", Rule, OutOfScope, "TCP sessions follow the state machine of stateful NAT64.", noNAT64 + " The tracker is that of group K."},
	{"N3", "RFC 6146 section 3.5.2", Must, OutOfScope, "A SYN that comes from the IPv4 side first is kept for six seconds.", noNAT64 + " T4 is the same among equals."},
	{"N4", "RFC 6146 section 3.5.2", Should, OutOfScope, "An established session that falls silent is probed before it ends.", noNAT64 + " Azure resets idle connections instead (group X)."},
	{"N5", "RFC 6146 section 3.5.3", Should, OutOfScope, "Query sessions last sixty seconds.", noNAT64 + " I2 is the same among equals."},
	{"N6", "RFC 6146 section 3.4", Must, OutOfScope, "Fragments in any order are handled with bounded memory.", noNAT64 + " U14 and group G are the same among equals."},
	{"N7", "RFC 6146 section 3.4", Must, All, "An error whose quote cannot be told, or quotes an error, is dropped in silence.", ""},
	{"N8", "RFC 6146 section 3.5", Must, OutOfScope, "Packets cannot loop through the translation prefix.", noNAT64},
}

var deterministicRows = []Row{
	{"D1", "RFC 7422", Rule, Option, "Ports are shared out by the sizes of both ranges, less reserved and dynamic ones.", ""},
	{"D2", "RFC 7422", Should, Option, "The ports of a host, and the host of a port, can be computed.", ""},
	{"D3", "RFC 7422", Must, Option, "A host's own range is used while it lasts, at random, and is not logged.", ""},
	{"D4", "RFC 7422", Must, Option, "Blocks beyond a host's own range come from the dynamic pool, up to a limit, and each is logged.", ""},
	{"D5", "RFC 7422", Must, Option, "The parameters are logged when they change and daily.", ""},
	{"D6", "RFC 7422", Rule, Option, "Whatever the algorithm, ranges are disjoint and can be reversed.", ""},
}

var logRows = []Row{
	{"L1", "RFC 8158", Should, Option, "Creation and end of sessions, bindings and blocks, and exhaustion, are events.", ""},
	{"L2", "RFC 8158", Must, Option, "An event has the fields that its kind demands.", ""},
	{"L3", "RFC 8158", ShouldNot, All, "Events tell destinations, or the same fact twice, unasked.", ""},
	{"L4", "RFC 8158", Should, All, "Events of exhaustion and quotas are limited by rate; counters are exact.", ""},
	{"L5", "RFC 8158", Ours, All, "Beginnings and ends balance, and a port never has two owners by its log.", ""},
}

var portRows = []Row{
	{"R1", "RFC 6056 section 4", Should, Option, "Ports that are not preserved are obfuscated, by choice.", ""},
	{"R2", "RFC 6056 section 3.2", Should, All, "All ports but those in use for something else can be given out.", ""},
	{"R3", "RFC 6056 section 3.2", Ours, All, "An excluded port is never given out.", ""},
	{"R4", "RFC 6056", Ours, All, "Ports chosen at random are not predictable.", ""},
	{"R5", "RFC 6056 section 3.3", Ours, All, "The generator is keyed, and one owner's choices tell nothing of another's.", ""},
	{"R6", "RFC 6888 REQ-13", Ours, All, "A port is refused if and only if none may be used.", ""},
	{"R7", "RFC 4787 REQ-3", Ours, All, "No two live flows share an outside port and a remote.", ""},
	{"R8", "RFC 4787 REQ-4", Ours, Option, "Parity and range are kept while there is such a port.", ""},
	{"R9", "RFC 6888 REQ-8", Ours, All, "Freed ports wait in order, for a time and up to a number.", ""},
	{"R10", "RFC 6888 REQ-14", Ours, Option, "A subscriber gets another block only when the first is full, and returns it when it is empty.", ""},
	{"R11", "RFC 6888 REQ-4", Ours, All, "A subscriber's hunger takes nothing from the live flows of others.", ""},
	{"R12", "RFC 4787 REQ-3", Ours, All, "Flows that begin at once on many processors get different ports, and copies of a first packet one.", ""},
	{"R13", "RFC 6888 REQ-3", Ours, All, "The pool can change, even to nothing, while flows live.", ""},
	{"R14", "RFC 7857 section 5", Ours, All, "TCP, UDP and ICMP have numbers of their own, and none is 0.", ""},
}
