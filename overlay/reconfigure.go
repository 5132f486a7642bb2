// A running cluster that changes: another configuration, more nodes or fewer. Read the AKS
// documents on scaling, outbound types and pod CIDR expansion first.

package overlay

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
	"github.com/seed-a61be3fe/natplane/overlay/internal/sums"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Reconfigure puts another configuration into force at now, while traffic flows, and reports
// what that changed. Node pools are identified by name: they may come, go, and be scaled
// from and to 0. Nodes that stay keep their index, addresses, pods and ports, and their
// flows go on; those with the highest numbers of their pool go first. With a node its pods
// go, and its flows end silently. Outbound IPs, ports, timers and OutboundType may change,
// too, and what that ends is what [lb.Egress.Reconfigure] says; so may the VNet around
// the nodes, the rules for new flows, and PodCIDRs as [CheckPodCIDRExpansion] allows.
//
// Nodes that AddNodes has added count anew: a pool has Count nodes afterwards.
//
// The error joins every problem of cfg, and what AKS does not let change: Name, IPFamilies,
// NetworkPlugin, LoadBalancerSKU, ServiceCIDRs, DNSServiceIP, StrictPodAddresses, MaxPods, OSType,
// DisableOutboundNAT, Subnet, Mode, prefix size and node public IPs of a pool that stays, the prefix
// that its nodes have their addresses from, and what [snat.NAT.Reconfigure] cannot change; then nothing
// has changed.
//
// Cost: O(nodes) to plan, during which packets go on; then see [snat.NAT.Reconfigure].
// Packets meanwhile are judged by the old or the new configuration, each stage for itself.
func (c *Cluster) Reconfigure(now flow.Time, cfg ClusterConfig) (snat.Change, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replace(now, cfg, nil, nil)
}

// AddNodes adds n nodes to a pool besides its Count, as an upgrade does for its duration,
// and returns their names. Ports and addresses must suffice; the autoscaler's bounds do not
// matter. Errors wrap [flow.ErrUnknownName], [flow.ErrOutOfRange] or what Reconfigure's do.
func (c *Cluster) AddNodes(now flow.Time, pool string, n int) ([]string, snat.Change, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.state.Load()
	if !slices.ContainsFunc(was.config.NodePools, func(p NodePool) bool { return p.Name == pool }) {
		return nil, snat.Change{}, fmt.Errorf("node pool %q: %w", pool, flow.ErrUnknownName)
	}
	if n < 1 || n > MaxNodesPerPool {
		return nil, snat.Change{}, fmt.Errorf("node pool %q: %d nodes: %w: 1..%d", pool, n, flow.ErrOutOfRange, MaxNodesPerPool)
	}
	extra := maps.Clone(was.extra)
	if extra == nil {
		extra = make(map[string]int)
	}
	extra[pool] += n
	change, err := c.replace(now, was.given, extra, nil)
	if err != nil {
		return nil, snat.Change{}, err
	}
	var names []string
	for _, node := range c.state.Load().Nodes {
		if _, old := was.byName[node.Name]; !old {
			names = append(names, node.Name)
		}
	}
	return names, change, nil
}

// RemoveNodes removes nodes by name, with their pods. Of their pool first those go that
// AddNodes has added, then its Count falls, but not below MinCount where the autoscaler is
// on. The error joins every problem with names, wrapping [flow.ErrUnknownName] or [flow.ErrOutOfRange], or is
// that of Reconfigure, and then nothing has changed.
func (c *Cluster) RemoveNodes(now flow.Time, names ...string) (snat.Change, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.state.Load()
	cfg, extra, gone := was.given.clone(), maps.Clone(was.extra), make(map[string]bool)
	pools := slices.Clone(was.config.NodePools)
	var errs []error
	for _, name := range names {
		if gone[name] {
			continue
		}
		gone[name] = true
		i, ok := was.byName[name]
		if !ok {
			errs = append(errs, fmt.Errorf("node %q: %w", name, flow.ErrUnknownName))
			continue
		}
		at := slices.IndexFunc(pools, func(p NodePool) bool { return p.Name == was.byIndex[i].Pool })
		p := &pools[at]
		if extra[p.Name] > 0 {
			extra[p.Name]--
			continue
		}
		if p.Count--; p.Count < p.MinCount {
			errs = append(errs, fmt.Errorf("node %q: %w: pool %q would have fewer than its MinCount of %d", name, flow.ErrOutOfRange, p.Name, p.MinCount))
			continue
		}
		cfg.NodePools[at].Count = p.Count
	}
	if len(errs) > 0 {
		return snat.Change{}, errors.Join(errs...)
	}
	return c.replace(now, cfg, extra, gone)
}

// replace puts a configuration into force, without the nodes that are to go by name. c.mu must be held.
// What is refused is said by the configuration for itself, if it is not valid.
func (c *Cluster) replace(now flow.Time, given ClusterConfig, extra map[string]int, gone map[string]bool) (snat.Change, error) {
	change, err := c.tryReplace(now, given, extra, gone)
	if err != nil && !c.closed.Load() {
		if invalid := given.validate(extra); invalid != nil {
			err = invalid
		}
	}
	return change, err
}

// tryReplace is replace, whose errors may be those of the translators.
func (c *Cluster) tryReplace(now flow.Time, given ClusterConfig, extra map[string]int, gone map[string]bool) (snat.Change, error) {
	was := c.state.Load()
	if c.closed.Load() {
		return snat.Change{}, fmt.Errorf("cluster %s: %w", was.config.Name, flow.ErrClosed)
	}
	if err := given.validateFields(extra); err != nil {
		return snat.Change{}, err
	}
	given = given.clone()
	next := given.withDefaults()
	c.watch(&next)
	if err := next.checkChange(&was.config); err != nil {
		return snat.Change{}, err
	}
	if err := c.checkServices(next, extra); err != nil {
		return snat.Change{}, err
	}
	from := *was.Fleet
	if gone != nil {
		from = *from.Without(gone)
	}
	c.services.mu.Lock()
	from.Reserved = c.services.privateAddrs()
	c.services.mu.Unlock()
	f := next.planned(extra).Plan(&from)
	c.services.mu.Lock()
	admitted, err := newAdmission(&next, f.Nodes, c.services.secured())
	if err != nil {
		c.services.mu.Unlock()
		return snat.Change{}, err
	}
	gateways, err := c.gateways.Plan(next.gateways(f, c.admitGateway, c.countExit))
	if err != nil {
		c.services.mu.Unlock()
		return snat.Change{}, err
	}
	egress := next.compile(f.Nodes, admitted)
	asked := balance(&egress, &next, c.services.all(), probe.ProberFunc(c.probe))
	c.services.mu.Unlock()
	checked, err := c.nodes.CheckReconfigure(next.compileNodes(f.Nodes, c.admit))
	if err != nil {
		gateways.Discard()
		return snat.Change{}, fmt.Errorf("nodes: %w", err)
	}
	before := c.services.probes.Swap(&asked)
	change, err := c.egress.Reconfigure(now, egress)
	if err != nil {
		c.services.probes.Store(before)
		gateways.Discard()
		return snat.Change{}, err
	}
	nodes, err := c.nodes.ReconfigureChecked(now, checked)
	if err != nil {
		panic(fmt.Sprintf("overlay: the nodes refuse what they have accepted: %v", err))
	}
	c.install(given, next, egress, admitted, f, extra, gateways)
	if next.bounds() && (!was.config.bounds() || next.Ceilings != was.config.Ceilings) {
		c.recount()
	}
	c.resetServices(now, &was.config.VNet, &next.VNet)
	c.withdraw()
	return sums.Changes(change, nodes), nil
}

// resetServices ends connections with services to which the way has changed, by which they had
// another source: Azure closes them ("Virtual Network service endpoints").
func (c *Cluster) resetServices(now flow.Time, was, next *VNet) {
	before, after := was.services(), next.services()
	both := slices.DeleteFunc(slices.Clone(was.ServiceEndpoints), func(p netip.Prefix) bool { return !after[p] })
	switched := slices.DeleteFunc(slices.Concat(was.ServiceEndpoints, next.ServiceEndpoints), func(p netip.Prefix) bool {
		return before[p] == after[p] || ranges.Within(p, both)
	})
	c.egress.ResetTo(now, switched)
	c.nodes.ResetTo(now, switched)
	c.gateways.ResetTo(now, switched)
}

// checkServices reports which ranges of a configuration overlap addresses that Services have at
// the load balancer, and where subnets have no room for those of internal ones.
func (c *Cluster) checkServices(next ClusterConfig, extra map[string]int) error {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	v := validation{ClusterConfig: next, extra: extra}
	for _, e := range c.services.all() {
		if !e.settings.Internal {
			v.checkServiceAddresses(fmt.Sprintf("Service %q", e.Name), e.addrs)
		}
	}
	v.checkPrivateAddresses("Services", c.services.privateAddrs())
	return v.Err()
}

// install makes a configuration, whose translators are in force, that by which packets go
// their way and pods have their addresses. c.mu must be held.
func (c *Cluster) install(given, cfg ClusterConfig, egress lb.EgressConfig, a *admission.Rules, f *fleet.Fleet, extra map[string]int, gateways *staticgateway.Plan) {
	was := c.state.Load()
	bits := func(name string) *podtable.Bits {
		if i, ok := was.byName[name]; ok {
			return was.live[i]
		}
		return new(podtable.Bits)
	}
	next := newState(cfg, egress, a, f, extra, c.indexes(), bits)
	next.given = given
	next.setMachines(was)
	c.applyGateways(next, gateways)
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, i := range was.byName {
		if _, stays := next.byName[name]; !stays {
			p.leave(i)
			c.gateways.ReleaseAll(was.byIndex[i].PodBlocks)
		}
	}
	p.table.Grow(len(next.byIndex))
	if next.replaces(was) { // else the proxy would take a node for the one whose place it has
		c.proxy.SetNodes(next.proxiedNodes(was))
	}
	c.proxy.SetNodes(next.proxiedNodes(nil)) // before anybody sees a node that endpoints may be on
	c.setState(next)
}

// replaces reports whether a node of s has the index of one of was that is gone.
func (s *state) replaces(was *state) bool {
	for i, n := range s.byIndex {
		if o := was.node(i); n != nil && o != nil && n.Name != o.Name {
			return true
		}
	}
	return false
}

// checkChange reports what may not change of a configuration in force; both have their
// defaults.
func (c *ClusterConfig) checkChange(was *ClusterConfig) error {
	var p problems.List
	fixed := func(path string, is, was any, changed bool) {
		if changed {
			p.Add(path, is, snat.ErrFixed, "it is %v", was)
		}
	}
	fixed("Name", c.Name, was.Name, c.Name != was.Name)
	fixed("IPFamilies", c.IPFamilies, was.IPFamilies, c.IPFamilies != was.IPFamilies)
	fixed("LoadBalancerSKU", c.LoadBalancerSKU, was.LoadBalancerSKU, c.LoadBalancerSKU != was.LoadBalancerSKU)
	fixed("ServiceCIDRs", c.ServiceCIDRs, was.ServiceCIDRs, !slices.Equal(c.ServiceCIDRs, was.ServiceCIDRs))
	fixed("DNSServiceIP", c.DNSServiceIP, was.DNSServiceIP, c.DNSServiceIP != was.DNSServiceIP)
	fixed("StrictPodAddresses", c.StrictPodAddresses, was.StrictPodAddresses, c.StrictPodAddresses != was.StrictPodAddresses)
	fixed("NetworkPlugin", c.NetworkPlugin, was.NetworkPlugin, c.NetworkPlugin != was.NetworkPlugin)
	c.checkPodCIDRChange(was, &p)
	for i := range c.NodePools {
		n := &c.NodePools[i]
		at := slices.IndexFunc(was.NodePools, func(o NodePool) bool { return o.Name == n.Name })
		if at < 0 {
			continue
		}
		o, path := &was.NodePools[at], problems.Index("NodePools", i)
		fixed(path+".OSType", n.OSType, o.OSType, n.OSType != o.OSType)
		fixed(path+".DisableOutboundNAT", n.DisableOutboundNAT, o.DisableOutboundNAT, n.DisableOutboundNAT != o.DisableOutboundNAT)
		fixed(path+".MaxPods", n.MaxPods, o.MaxPods, n.MaxPods != o.MaxPods)
		fixed(path+".Subnet", n.Subnet, o.Subnet, n.Subnet != o.Subnet)
		fixed(path+".Mode", n.Mode, o.Mode, n.Mode != o.Mode)
		fixed(path+".GatewayPublicIPPrefixSize", n.GatewayPublicIPPrefixSize, o.GatewayPublicIPPrefixSize, n.GatewayPublicIPPrefixSize != o.GatewayPublicIPPrefixSize)
		is, before := n.NodePublicIP, o.NodePublicIP
		fixed(path+".NodePublicIP.Enabled", is.Enabled, before.Enabled, is.Enabled != before.Enabled)
		fixed(path+".NodePublicIP.Prefixes", is.Prefixes, before.Prefixes, !slices.Equal(is.Prefixes, before.Prefixes))
		fixed(path+".NodePublicIP.Tags", is.Tags, before.Tags, !slices.Equal(is.Tags, before.Tags))
		for _, f := range c.families() {
			before, after := was.prefixOf(o.Subnet, f), c.prefixOf(n.Subnet, f)
			fixed("VNet.Subnets", after, before, n.Subnet == o.Subnet && before != after)
		}
	}
	return p.Err()
}

// prefixOf returns the prefix of a subnet that nodes have their addresses of family f from.
func (c *ClusterConfig) prefixOf(subnet string, f family) netip.Prefix {
	s := c.subnet(subnet)
	if s == nil {
		return netip.Prefix{}
	}
	p, _ := s.prefix(f)
	return p
}
