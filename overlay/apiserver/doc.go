// Package apiserver makes the traffic of nodes to the API server of a cluster that is not
// private: it leaves by the outbound type as everything does that goes to the Internet, and so
// uses SNAT ports before the first workload sends anything.
//
// Terminology, used exactly so in names and comments:
//   - API server: the control plane's public address and port.
//   - Client: who keeps a connection to it: the kubelet of each node, which has the node's
//     address, and each system pod, which has its own.
//   - Attempt: a SYN of a client and the rest of its handshake. It fails if one of the packets
//     does not arrive.
//   - Cut: a connection that is over without a FIN: its client is reset, or a keep-alive is
//     not answered.
//
// A [Traffic] drives an [overlay.Cluster] through its doors Outbound and Inbound, and only by
// them, in virtual time: the three packets of the handshake, a keep-alive of the client with its
// answer at an interval, FINs, and a RST of the API server for what belongs to no connection
// that it knows. They are packets as others; what the cluster does with them is as for others.
// A failed attempt and a cut are followed by another attempt, from the client's next port.
//
//	t.Follow ─► a connection per node and system pod ─► t.Advance at t.NextDeadline
//
// That connections to the API server take SNAT ports is said by "Create a managed or user-assigned
// NAT gateway for AKS"; how many there are, and how they behave, no document says.
// Our choice: one long-lived TCP connection per client; the
// numbers at the fields of [Config]; the API server answers at once, and so a packet is lost
// if and only if the cluster drops it; no TLS and no data, whose bytes take no further ports.
// Without a Traffic a cluster has none of it.
//
// Packets: RFC 9293 (sections 3.4.1, 3.5 and 3.6), RFC 1122 section 4.2.3.6 (keep-alives) and
// RFC 5961 section 3.2 (which RST counts). Nothing is random: the same calls make the same packets.
//
// A Traffic is for one goroutine at a time; others may use the cluster meanwhile. It refuses to
// know the outbound type, ports and tables.
package apiserver
