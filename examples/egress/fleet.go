// The cluster under simulation: how the command line becomes a cluster, and how
// its statistics become the usage that the report shows. Apart from limits of
// flags, all that this command needs of package overlay is here.

package main

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// fleet is a cluster with its pods numbered.
type fleet struct {
	*overlay.Cluster
	pods      []pod
	frontends []netip.Addr // outbound IPs, IPv4 first, in the order of their use
}

// podCIDR6 is the range of the pods' IPv6 addresses, AKS's default.
var podCIDR6 = netip.MustParsePrefix("fd12:3456:789a::/64")

// newFleet creates a dual-stack cluster with all its pods.
func newFleet(o options) (*fleet, error) {
	dataplane := snat.Dataplane{Seed: o.seed, ICMP: snat.ICMP{Queries: o.carried.icmp}}
	if o.carried.fragments {
		dataplane.Fragments.Mode = snat.FragmentsVirtual
	}
	cluster, err := overlay.New(overlay.ClusterConfig{
		IPFamilies: "ipv4,ipv6",
		PodCIDRs:   []netip.Prefix{podCIDR, podCIDR6},
		NodePools:  []overlay.NodePool{{Count: o.nodes}},
		LoadBalancerProfile: overlay.LoadBalancerProfile{
			ManagedOutboundIPCount:     o.ips,
			ManagedOutboundIPCountIPv6: o.ips,
			AllocatedOutboundPorts:     o.ports,
			IdleTimeout:                o.idle.Duration,
		},
		Dataplane: dataplane,
	})
	if err != nil {
		return nil, err
	}
	f := &fleet{Cluster: cluster}
	for _, n := range cluster.Nodes() {
		for i := range o.podsPerNode {
			p, err := cluster.AddPod(n.Name, fmt.Sprintf("pod-%d-%d", n.Index, i))
			if err != nil {
				cluster.Close()
				return nil, err
			}
			f.pods = append(f.pods, pod{name: p.Name, node: n.Name, v4: p.Addrs[0], v6: p.Addrs[1]})
		}
	}
	for _, u := range f.outboundIPs() {
		f.frontends = append(f.frontends, u.ip)
	}
	return f, nil
}

// usage returns the state of the cluster.
func (f *fleet) usage() usage {
	s := f.Stats()
	u := usage{
		created: int(s.SessionsCreated), active: s.SessionsActive,
		successful: int(s.ConnectionsSuccessful), failed: int(s.ConnectionsFailed),
		frontends: f.outboundIPs(),
	}
	u.expired = u.created - u.active
	nodes := f.Nodes()
	for i, s := range f.Instances() {
		n := nodeUsage{name: nodes[i].Name, addr: nodes[i].Addrs[0], flows: int(s.Created), failed: int(s.Failed)}
		for _, p := range s.Pools {
			use := portUsage{allocated: p.Allocated, peak: p.Peak, uses: p.PortUses}
			if p.Protocol == snat.TCP {
				n.tcp = fuller(n.tcp, use)
			} else {
				n.udp = fuller(n.udp, use)
			}
		}
		u.nodes = append(u.nodes, n)
	}
	return u
}

// outboundIPs adds the protocols of every outbound IP up, IPv4 first.
func (f *fleet) outboundIPs() []frontendUsage {
	var families [2][]frontendUsage
	for _, s := range f.Frontends() {
		family := &families[0]
		if s.Frontend.Is6() {
			family = &families[1]
		}
		if n := len(*family); n == 0 || (*family)[n-1].ip != s.Frontend {
			*family = append(*family, frontendUsage{ip: s.Frontend})
		}
		u := &(*family)[len(*family)-1]
		u.allocated += s.Allocated
		u.uses = u.uses.Add(s.PortUses)
		u.peak += s.Peak
	}
	return append(families[0], families[1]...)
}
