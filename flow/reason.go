package flow

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Reason says why a packet was dropped. Every reason has a short code, which is
// also its name in reports and JSON, and a sentence for people.
type Reason uint8

// The reasons that the packet parser finds, in its order.
const (
	ReasonNone             Reason = Reason(wire.OK)
	ReasonShort                   = Reason(wire.Short)
	ReasonBadVersion              = Reason(wire.BadVersion)
	ReasonBadIHL                  = Reason(wire.BadIHL)
	ReasonBadLength               = Reason(wire.BadLength)
	ReasonIPChecksum              = Reason(wire.IPChecksum)
	ReasonBadOption               = Reason(wire.BadOption)
	ReasonSourceRoute             = Reason(wire.SourceRoute)
	ReasonFragLength              = Reason(wire.FragLength)
	ReasonFragOverflow            = Reason(wire.FragOverflow)
	ReasonFragEmpty               = Reason(wire.FragEmpty)
	ReasonFragTiny                = Reason(wire.FragTiny)
	ReasonFragOffset1             = Reason(wire.FragOffset1)
	ReasonProtoFamily             = Reason(wire.ProtoFamily)
	ReasonUnsupportedProto        = Reason(wire.UnsupportedProto)
	ReasonTCPShort                = Reason(wire.TCPShort)
	ReasonTCPOffset               = Reason(wire.TCPOffset)
	ReasonTCPFlags                = Reason(wire.TCPFlags)
	ReasonPortZero                = Reason(wire.PortZero)
	ReasonUDPShort                = Reason(wire.UDPShort)
	ReasonUDPLength               = Reason(wire.UDPLength)
	ReasonUDP6Zero                = Reason(wire.UDP6Zero)
	ReasonICMPShort               = Reason(wire.ICMPShort)
	ReasonJumbo                   = Reason(wire.Jumbo)
	ReasonExtOrder                = Reason(wire.ExtOrder)
	ReasonExtLength               = Reason(wire.ExtLength)
	ReasonExtLimit                = Reason(wire.ExtLimit)
	ReasonRoutingHeader           = Reason(wire.RoutingHeader)
	ReasonHopOption               = Reason(wire.HopOption)
	ReasonTTL                     = Reason(wire.NoHops) // or, of a router, 1
)

// The reasons that depend on addresses, state or configuration.
const (
	ReasonMartianSource Reason = Reason(wire.NumProblems) + iota
	ReasonMartianDestination
	ReasonLinkLocal
	ReasonLand
	ReasonSpoof
	ReasonSpoofFrontend
	ReasonNotOurs
	ReasonNoFlow
	ReasonPorts
	ReasonMappingConflict
	ReasonNoOutbound
	ReasonFiltered
	ReasonFragment
	ReasonL4Checksum
	ReasonFlowReset
	ReasonRoute
	ReasonHairpin
	ReasonHairpinLoop
	ReasonTooBig
	ReasonICMPType
	ReasonICMPChecksum
	ReasonICMPInnerShort
	ReasonICMPInnerBad
	ReasonICMPInnerChecksum
	ReasonICMPInnerFragment
	ReasonICMPNested
	ReasonICMPNoFlow
	ReasonDestinationLimit
	ReasonFlowLimit
	ReasonQuota
	ReasonRate
	ReasonSessionCap
	ReasonSubscribers
	ReasonNSGInbound
	ReasonNSGOutbound
	ReasonFragOverlap
	ReasonFragDuplicate
	ReasonFragConflict
	ReasonFragLimit
	ReasonFragTimeout
	ReasonNoTarget
	ReasonTargetLoop
	ReasonNoLocalTarget
	ReasonSourceRange
	ReasonMemory
	ReasonClosed
	ReasonFault
	ReasonPlatform
	ReasonIMDS
	ReasonNetworkPolicy
	ReasonNodePorts
	ReasonVMConnections
	ReasonConntrack
	ReasonEphemeralPorts
	ReasonDNSQueries
	ReasonDNSPending

	// NumReasons is the number of reasons, ReasonNone included.
	NumReasons
)

var reasonText = [...]struct{ code, sentence string }{
	ReasonNone:             {"none", "The packet was not dropped."},
	ReasonShort:            {"short", "The buffer is shorter than the smallest IP header."},
	ReasonBadVersion:       {"bad_version", "The IP version is neither 4 nor 6."},
	ReasonBadIHL:           {"bad_ihl", "The IPv4 header length is below 20 bytes or runs past the buffer."},
	ReasonBadLength:        {"bad_len", "The IP length field disagrees with the header or runs past the buffer."},
	ReasonIPChecksum:       {"ip_csum", "The IPv4 header checksum is wrong."},
	ReasonBadOption:        {"bad_option", "An IPv4 option is malformed."},
	ReasonSourceRoute:      {"src_route", "The packet carries a source route option."},
	ReasonFragLength:       {"frag_len", "A fragment that is not the last has a length that is no multiple of 8."},
	ReasonFragOverflow:     {"frag_overflow", "The fragment ends beyond 65,535 bytes."},
	ReasonFragEmpty:        {"frag_empty", "The fragment carries no data."},
	ReasonFragTiny:         {"frag_tiny", "The first fragment does not hold the whole transport header."},
	ReasonFragOffset1:      {"frag_fo1", "A TCP fragment begins at offset 8, inside the TCP header."},
	ReasonProtoFamily:      {"proto_family", "The ICMP version does not fit the IP version."},
	ReasonUnsupportedProto: {"unsupported_proto", "The transport protocol is not translated here."},
	ReasonTCPShort:         {"tcp_short", "The TCP segment is shorter than its header."},
	ReasonTCPOffset:        {"tcp_off", "The TCP data offset is below 5 or runs past the segment."},
	ReasonTCPFlags:         {"tcp_flags", "The combination of TCP flags is not legal."},
	ReasonPortZero:         {"port_zero", "The source or destination port is 0."},
	ReasonUDPShort:         {"udp_short", "The UDP datagram is shorter than its header."},
	ReasonUDPLength:        {"udp_len", "The UDP length is below 8 or exceeds the IP payload."},
	ReasonUDP6Zero:         {"udp6_zero", "The UDP checksum is 0 in an IPv6 packet."},
	ReasonICMPShort:        {"icmp_short", "The ICMP message is shorter than its header."},
	ReasonJumbo:            {"jumbo", "The packet is an IPv6 jumbogram."},
	ReasonExtOrder:         {"v6_ext_order", "A Hop-by-Hop header is not first, or a Fragment header is repeated."},
	ReasonExtLength:        {"v6_ext_len", "An IPv6 extension header runs past the packet."},
	ReasonExtLimit:         {"v6_ext_limit", "The IPv6 extension header chain exceeds the configured limits."},
	ReasonRoutingHeader:    {"v6_routing", "An IPv6 Routing header still has segments left."},
	ReasonHopOption:        {"v6_hop_option", "A Hop-by-Hop option must be understood and is not."},
	ReasonTTL:              {"ttl", "The TTL or hop limit was 0, or ran out here."},

	ReasonMartianSource:      {"martian_src", "The source is not the address of a single host."},
	ReasonMartianDestination: {"martian_dst", "The destination is not the address of a single host."},
	ReasonLinkLocal:          {"link_local", "A link-local address may not cross."},
	ReasonLand:               {"land", "Source and destination are the same address."},
	ReasonSpoof:              {"spoof", "The inside source belongs to no instance."},
	ReasonSpoofFrontend:      {"spoof_frontend", "The source is one of our own frontends or public addresses."},
	ReasonNotOurs:            {"not_ours", "The outside destination is none of our addresses."},
	ReasonNoFlow:             {"no_flow", "The packet belongs to no flow and may not begin one."},
	ReasonPorts:              {"ports", "No SNAT port of the instance is usable for this destination."},
	ReasonMappingConflict:    {"mapping_conflict", "A packet from outside would begin a session of an inside socket that reaches its sender by another port, or by another frontend."},
	ReasonNoOutbound:         {"no_outbound", "The instance has no SNAT ports for this protocol and address family."},
	ReasonFiltered:           {"filtered", "The mapping exists, but its filter does not admit this remote."},
	ReasonFragment:           {"fragment", "IP fragments are not translated here."},
	ReasonL4Checksum:         {"l4_csum", "The first packet of a flow has a wrong transport checksum."},
	ReasonFlowReset:          {"flow_reset", "The flow has been reset on idle; the sender was told so again."},
	ReasonRoute:              {"route", "The destination's route drops the packet."},
	ReasonHairpin:            {"hairpin", "An inside host addressed one of our own frontends or public addresses, and may not."},
	ReasonHairpinLoop:        {"hairpin_loop", "An inside host addressed its own outside socket, or one that nobody has."},
	ReasonTooBig:             {"too_big", "The packet exceeds the MTU and may not be fragmented."},
	ReasonICMPType:           {"icmp_type", "ICMP messages of this type do not cross."},
	ReasonICMPChecksum:       {"icmp_csum", "The checksum of the ICMP error is wrong."},
	ReasonICMPInnerShort:     {"icmp_inner_short", "The ICMP error quotes too little of a packet to tell its flow."},
	ReasonICMPInnerBad:       {"icmp_inner_bad", "The header of the packet that the ICMP error quotes is malformed or of another family."},
	ReasonICMPInnerChecksum:  {"icmp_inner_csum", "The IPv4 header checksum of the packet that the ICMP error quotes is wrong."},
	ReasonICMPInnerFragment:  {"icmp_inner_frag", "The ICMP error quotes a fragment that does not tell its flow."},
	ReasonICMPNested:         {"icmp_nested", "The ICMP error quotes an ICMP error."},
	ReasonICMPNoFlow:         {"icmp_no_flow", "The ICMP error quotes a packet of no flow, or one that its receiver did not send."},
	ReasonDestinationLimit:   {"destination_limit", "Every frontend has as many flows to this destination as its limit allows."},
	ReasonFlowLimit:          {"flow_limit", "The translator has as many flows as its limit allows."},
	ReasonQuota:              {"quota", "The inside address has as many outside ports as its quota allows."},
	ReasonRate:               {"rate", "The inside address begins sessions faster than its limit allows."},
	ReasonSessionCap:         {"session_cap", "The inside address, or the mapping, has as many sessions as its limit allows."},
	ReasonSubscribers:        {"subscribers", "The instance has sessions of as many inside addresses as its limit allows."},
	ReasonNSGInbound:         {"nsg_inbound", "A network security group denies the inbound flow."},
	ReasonNSGOutbound:        {"nsg_outbound", "A network security group denies the outbound flow."},
	ReasonFragOverlap:        {"frag_overlap", "Fragments of the datagram overlap or disagree about its end; all of it is discarded."},
	ReasonFragDuplicate:      {"frag_duplicate", "The fragment is a copy of one that has come already."},
	ReasonFragConflict:       {"frag_conflict", "The datagram has two first fragments with different ports; all of it is discarded."},
	ReasonFragLimit:          {"frag_limit", "A limit on the number or the memory of fragments is reached."},
	ReasonFragTimeout:        {"frag_timeout", "The first fragment of the datagram did not come in time."},
	ReasonNoTarget:           {"no_target", "The frontend's port is forwarded, but no target takes new flows."},
	ReasonTargetLoop:         {"target_loop", "The flow was begun by the very target that it would be forwarded to."},
	ReasonNoLocalTarget:      {"no_local_target", "The Service keeps to the endpoints of the node, and the node has none."},
	ReasonSourceRange:        {"source_range", "The Service's load balancer does not admit the source address."},
	ReasonMemory:             {"memory", "There is no memory for the record that the packet needs, or too many records collide."},
	ReasonClosed:             {"closed", "The translator has been closed."},
	ReasonFault:              {"fault", "The translator has found a fault of its own while it dealt with the packet."},
	ReasonPlatform:           {"platform", "A pod addressed a port of the platform that only nodes may use."},
	ReasonIMDS:               {"imds", "The instance metadata service is closed to pods."},
	ReasonNetworkPolicy:      {"network_policy", "A network policy denies the flow."},
	ReasonNodePorts:          {"node_ports", "The node translates its pods, and has no port left for this destination."},
	ReasonVMConnections:      {"vm_connections", "The virtual machine has as many connections as its limit allows."},
	ReasonConntrack:          {"conntrack", "The node's connection tracking has no room for another connection."},
	ReasonEphemeralPorts:     {"ephemeral_ports", "The node itself has no port left for this destination."},
	ReasonDNSQueries:         {"dns_queries", "The virtual machine has sent as many queries to Azure DNS in this second as it may."},
	ReasonDNSPending:         {"dns_pending", "As many queries of the virtual machine wait for Azure DNS as may."},
}

var _ = [1]struct{}{}[len(reasonText)-int(NumReasons)] // one text per reason

// MarshalText returns the code, as String does.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String returns the code of r, such as "no_flow".
func (r Reason) String() string {
	if int(r) < len(reasonText) {
		return reasonText[r].code
	}
	return "reason(?)"
}

// Sentence returns what r means, as a sentence for people.
func (r Reason) Sentence() string {
	if int(r) < len(reasonText) {
		return reasonText[r].sentence
	}
	return ""
}

// Reasons iterates over all reasons but ReasonNone.
func Reasons() iter.Seq[Reason] {
	return func(yield func(Reason) bool) {
		for r := ReasonNone + 1; r < NumReasons; r++ {
			if !yield(r) {
				return
			}
		}
	}
}
