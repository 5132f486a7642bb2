// Package ceilings has what bounds the flows of a node besides outbound ports: limits of its
// virtual machine and of its operating system, for a cluster's configuration.
//
// [Limits] are data. A cluster asks them after everything else that may refuse a flow, and each has
// a [flow.Reason] of its own, whose counter is in the Drops of the cluster's statistics.
// It refuses to know who counts, and when.
//
// Sources: the Azure documents "Virtual machine network bandwidth" (connections), "Customize
// node configuration for AKS node pools" (nf_conntrack_max, ip_local_port_range) and "Azure DNS
// limits" in "Azure subscription and service limits".
package ceilings

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Limits are of each node by itself. A zero field is no limit, and so is the zero Limits.
//
// A connection is a session of the cluster: all to and from the Internet but for what is translated
// one to one, and all inside the network where something is remembered. What leaves by a static
// egress gateway is of the node that it leaves by; for the pod's own node it is one tunnel. What pods
// send each other, directly or through Services, and what a node with a public address of its own sends
// and gets with that, is not counted: nobody remembers these flows, so that nothing tells when one
// ends. One count per node is exact while one goroutine at a time drives the node; others may pass at
// the same moment and exceed it by one each.
type Limits struct {
	// VMConnections is how many connections the virtual machine has at the same time; each
	// is a flow in both directions for Azure, which counts 1,000,000 flows. One
	// more is dropped ([flow.ReasonVMConnections]).
	VMConnections int

	// Conntrack is how many connections the node's connection tracking remembers
	// (nf_conntrack_max); one more is dropped ([flow.ReasonConntrack]).
	Conntrack int

	// EphemeralPorts is how many ports the sockets of the node itself have for one
	// destination (address, port and protocol). One more that the node begins, from whatever port, is dropped
	// ([flow.ReasonEphemeralPorts]). Its pods have ports of their own.
	EphemeralPorts int

	// DNSQueries is how many queries a second Azure DNS, 168.63.129.16, takes from the
	// virtual machine, in each second of the simulation's time; the rest are dropped
	// ([flow.ReasonDNSQueries]). Queries are UDP datagrams to port 53; those
	// over TCP are not counted.
	DNSQueries int

	// DNSPending is how many of them may wait for their answer at the same time; one more
	// is dropped ([flow.ReasonDNSPending]). A query waits for 5 seconds at most, which
	// is our choice. One that is sent again, with the same socket and ID, is the same one.
	DNSPending int
}

// Documented values. The memory of Conntrack is in bytes.
const (
	azureVMConnections  = 500_000
	azureEphemeralPorts = 60_999 - 32_768 + 1 // ip_local_port_range
	azureDNSQueries     = 1_000
	azureDNSPending     = 200

	conntrackMemory                   = 16 << 10 // per entry
	conntrackLeast, conntrackGreatest = 131_072, 2_097_152
)

// Azure returns the documented limits of a node with that much memory, in bytes.
func Azure(memory int64) Limits {
	return Limits{
		VMConnections: azureVMConnections, Conntrack: ConntrackMax(memory), EphemeralPorts: azureEphemeralPorts,
		DNSQueries: azureDNSQueries, DNSPending: azureDNSPending,
	}
}

// ConntrackMax returns the nf_conntrack_max of a node with that much memory, in bytes: an entry
// for each 16 KiB, within 131,072 to 2,097,152.
func ConntrackMax(memory int64) int {
	return int(min(max(memory/conntrackMemory, conntrackLeast), conntrackGreatest))
}

// Validate returns every limit that is negative in one error, or nil; each wraps
// [flow.ErrOutOfRange].
func (l Limits) Validate() error {
	var p problems.List
	for _, f := range []struct {
		field string
		value int
	}{
		{"VMConnections", l.VMConnections}, {"Conntrack", l.Conntrack}, {"EphemeralPorts", l.EphemeralPorts},
		{"DNSQueries", l.DNSQueries}, {"DNSPending", l.DNSPending},
	} {
		if f.value < 0 {
			p.Add(f.field, f.value, flow.ErrOutOfRange, "0 is no limit")
		}
	}
	return p.Err()
}
