package wire

import "strconv"

// Problem says why Parse refuses a packet. The zero value is OK.
type Problem uint8

// The problems Parse finds, one per way a packet can be malformed.
const (
	OK               Problem = iota // the packet is well formed
	Short                           // fewer bytes than the fixed IP header
	BadVersion                      // version is neither 4 nor 6
	BadIHL                          // IPv4 header length under 20 bytes or past the buffer
	BadLength                       // total or payload length disagrees with the bytes at hand
	IPChecksum                      // IPv4 header checksum is wrong
	BadOption                       // IPv4 option of length 0 or 1, or past the header
	SourceRoute                     // IPv4 loose or strict source route
	FragLength                      // more fragments follow, yet the length is no multiple of 8
	FragOverflow                    // reassembly would exceed 65,535 bytes
	FragEmpty                       // fragment without payload
	FragTiny                        // first fragment without all headers (RFC 3128, RFC 7112)
	FragOffset1                     // TCP fragment at offset 8 overwrites flags (RFC 1858)
	ProtoFamily                     // ICMPv6 in IPv4, or ICMP in IPv6
	UnsupportedProto                // upper layer is not TCP, UDP or ICMP
	TCPShort                        // TCP segment under 20 bytes
	TCPOffset                       // TCP data offset under 5 words or past the segment
	TCPFlags                        // TCP flags no stack sends together
	PortZero                        // source or destination port is 0
	UDPShort                        // UDP datagram under 8 bytes
	UDPLength                       // UDP length under 8 or past the IP payload
	UDP6Zero                        // UDP checksum 0 over IPv6 (RFC 8200 section 8.1)
	ICMPShort                       // ICMP message under 8 bytes
	Jumbo                           // IPv6 jumbogram (RFC 2675)
	ExtOrder                        // Hop-by-Hop not first, or a second Fragment header
	ExtLength                       // extension header or its option past the payload
	ExtLimit                        // more extension headers, bytes, options or padding than accepted
	RoutingHeader                   // Routing header with segments left
	HopOption                       // unknown Hop-by-Hop option that asks to be dropped
	NoHops                          // TTL or hop limit 0 on arrival

	NumProblems // the number of problems, OK included
)

var problemCode = [...]string{
	OK:               "",
	Short:            "short",
	BadVersion:       "bad_version",
	BadIHL:           "bad_ihl",
	BadLength:        "bad_len",
	IPChecksum:       "ip_csum",
	BadOption:        "bad_option",
	SourceRoute:      "src_route",
	FragLength:       "frag_len",
	FragOverflow:     "frag_overflow",
	FragEmpty:        "frag_empty",
	FragTiny:         "frag_tiny",
	FragOffset1:      "frag_fo1",
	ProtoFamily:      "proto_family",
	UnsupportedProto: "unsupported_proto",
	TCPShort:         "tcp_short",
	TCPOffset:        "tcp_off",
	TCPFlags:         "tcp_flags",
	PortZero:         "port_zero",
	UDPShort:         "udp_short",
	UDPLength:        "udp_len",
	UDP6Zero:         "udp6_zero",
	ICMPShort:        "icmp_short",
	Jumbo:            "jumbo",
	ExtOrder:         "v6_ext_order",
	ExtLength:        "v6_ext_len",
	ExtLimit:         "v6_ext_limit",
	RoutingHeader:    "v6_routing",
	HopOption:        "v6_hop_option",
	NoHops:           "ttl",
}

var _ = [1]struct{}{}[len(problemCode)-int(NumProblems)] // one code per problem

// String returns the snake-case code that counters use, "" for OK, and
// "Problem(n)" for a value outside the list.
func (p Problem) String() string {
	if p >= NumProblems {
		return "Problem(" + strconv.Itoa(int(p)) + ")"
	}
	return problemCode[p]
}
