// The cluster under simulation: how the command line becomes a cluster, and how
// its statistics become the usage that the report shows. Apart from limits of
// flags, all that this command needs of package overlay is here.

package story

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

// apply makes a configuration carry these.
func (c carried) apply(d *snat.Dataplane) {
	if c.icmp {
		d.ICMP.Queries = true
	}
	if c.fragments {
		d.Fragments.Mode = snat.FragmentsVirtual
	}
}

// newFleet returns the cluster of a site, or else creates a dual-stack one, with all its pods.
func newFleet(o options, site *Site) (*fleet, error) {
	f := &fleet{}
	if site != nil {
		f.Cluster = site.Cluster
		for _, name := range site.Pods {
			p, _ := f.Pod(name) // the site has it
			f.add(p)
		}
	} else {
		var err error
		dataplane := snat.Dataplane{Seed: o.seed}
		o.carried.apply(&dataplane)
		f.Cluster, err = overlay.New(overlay.ClusterConfig{
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
	}
	if len(f.pods) == 0 {
		for _, n := range f.Nodes() {
			for i := range o.podsPerNode {
				p, err := f.AddPod(n.Name, fmt.Sprintf("pod-%d-%d", n.Index, i))
				if err != nil {
					f.Close()
					return nil, err
				}
				f.add(p)
			}
		}
	}
	for _, u := range f.outboundIPs() {
		f.frontends = append(f.frontends, u.ip)
	}
	return f, nil
}

// add numbers a pod.
func (f *fleet) add(p overlay.Pod) {
	own := pod{name: p.Name, node: p.Node, v4: p.Addrs[0]}
	if len(p.Addrs) > 1 {
		own.v6 = p.Addrs[1]
	}
	f.pods = append(f.pods, own)
}

// publicAddrs returns the addresses that the Internet sees besides outbound IPs: those of nodes.
func (f *fleet) publicAddrs() (addrs []netip.Addr) {
	for _, n := range f.Nodes() {
		addrs = append(addrs, n.PublicAddrs...)
	}
	return addrs
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
	for _, n := range f.Nodes() {
		u.nodes = append(u.nodes, nodeUsage{name: n.Name, addr: n.Addrs[0]})
	}
	for i, s := range f.Instances() {
		n := &u.nodes[i]
		n.flows, n.failed = int(s.Created), int(s.Failed)
		for _, p := range s.Pools {
			use := portUsage{allocated: p.Allocated, peak: p.Peak, uses: p.PortUses}
			if p.Protocol == snat.TCP {
				n.tcp = fuller(n.tcp, use)
			} else {
				n.udp = fuller(n.udp, use)
			}
		}
	}
	return u
}

// busy reports whether there are flows, or ports that are held.
func (f *fleet) busy() bool {
	if f.Stats().SessionsActive > 0 {
		return true
	}
	for _, s := range f.Frontends() {
		if s.Total() > 0 {
			return true
		}
	}
	return false
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
