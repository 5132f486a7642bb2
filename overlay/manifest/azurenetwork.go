// The network around a cluster, as az network prints it: public IPs and prefixes, NAT gateways,
// virtual networks and load balancers.

package manifest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

// managedSubnet is the subnet of the virtual network that AKS makes for a cluster.
const managedSubnet = "aks-subnet"

// network is the documents about the network, by what they are.
type network struct {
	addresses, prefixes, gateways, vnets, subnets, peerings, balancers []doc

	rules []doc // of load balancing, and probes
}

// networkKinds are the types of objects about the network, and the field that tells one whose type is not
// there.
var networkKinds = []struct {
	kind, field string
	of          func(*network) *[]doc
}{
	{"publicipaddresses", "publicIPAllocationMethod", func(n *network) *[]doc { return &n.addresses }},
	{"publicipprefixes", "ipPrefix", func(n *network) *[]doc { return &n.prefixes }},
	{"natgateways", "publicIpPrefixes", func(n *network) *[]doc { return &n.gateways }},
	{"virtualnetworks", "addressSpace", func(n *network) *[]doc { return &n.vnets }},
	{"virtualnetworks/subnets", "", func(n *network) *[]doc { return &n.subnets }},
	{"virtualnetworks/virtualnetworkpeerings", "remoteVirtualNetwork", func(n *network) *[]doc { return &n.peerings }},
	{"loadbalancers", "loadBalancingRules", func(n *network) *[]doc { return &n.balancers }},
	{"loadbalancers/loadbalancingrules", "loadDistribution", func(n *network) *[]doc { return &n.rules }},
	{"loadbalancers/probes", "numberOfProbes", func(n *network) *[]doc { return &n.rules }},
}

// put puts a document to those of its kind, and reports whether it is about the network.
func (n *network) put(d doc, kind string, has func(string) bool) bool {
	kind, named := strings.CutPrefix(kind, "microsoft.network/")
	for _, k := range networkKinds {
		if named && kind == k.kind || !named && kind == "" && k.field != "" && has(k.field) {
			list := k.of(n)
			*list = append(*list, d)
			return true
		}
	}
	return false
}

// publicAddresses notes the addresses of public IPs and prefixes. What a cluster file says of one precedes.
func (r *azureReader) publicAddresses() {
	note := func(id, name, text string) {
		for _, key := range []string{strings.ToLower(id), strings.ToLower(name)} {
			if _, ok := r.addresses[key]; !ok && key != "" && text != "" {
				r.addresses[key] = text
			}
		}
	}
	for _, d := range r.around.addresses {
		var p azurePublicIP
		r.decode(d, &p)
		if p.IPAddress.IsValid() { // one that nobody has used yet may be without
			note(p.ID, p.Name, p.IPAddress.String())
		}
	}
	for _, d := range r.around.prefixes {
		var p azurePublicPrefix
		r.decode(d, &p)
		if p.IPPrefix.IsValid() {
			note(p.ID, p.Name, p.IPPrefix.String())
		}
	}
}

// natGateway takes over the gateway of a cluster whose outbound type is userAssignedNATGateway.
func (r *azureReader) natGateway(d doc) {
	var g azureNATGateway
	r.decode(d, &g)
	c := &r.cluster.Config
	switch {
	case len(r.managed) == 0:
		c.OutboundType = overlay.OutboundUserAssignedNATGateway
		r.moved("OutboundType", "")
	case c.OutboundType != overlay.OutboundUserAssignedNATGateway:
		r.omit(r.place("Name", "name"), g.Name, "outboundType is %v: traffic leaves by that", c.OutboundType)
		return
	}
	if c.NATGatewayProfile.NATGateway != nil {
		r.badAt(r.place("Name", "name"), g.Name, flow.ErrDuplicateName, "there is a NAT gateway in %s already", r.nearest("NATGatewayProfile.NATGateway"))
		return
	}
	to := &lb.NATGateway{Name: g.Name, IdleTimeout: minutes(g.IdleTimeoutInMinutes)}
	switch strings.ToLower(g.SKU.Name) {
	case "", "standard":
	case "standardv2":
		to.SKU = lb.GatewayStandardV2
	default:
		r.badAt(r.place("SKU.Name", "sku"), g.SKU.Name, flow.ErrOutOfRange, "Standard or StandardV2")
	}
	const path = "NATGatewayProfile.NATGateway."
	address := func(id, at string, i int) {
		r.moved(problems.Index(path+"PublicIPAddresses", len(to.PublicIPAddresses)), at)
		to.PublicIPAddresses = append(to.PublicIPAddresses, r.address(id, at+".ID", i))
	}
	prefix := func(id, at string, i int) {
		if p, ok := r.prefix(id, at+".ID", i, 31); ok {
			r.moved(problems.Index(path+"PublicIPPrefixes", len(to.PublicIPPrefixes)), at)
			to.PublicIPPrefixes = append(to.PublicIPPrefixes, p)
		}
	}
	for _, list := range []struct {
		field string
		ids   []azureID
		is6   bool
		take  func(id, at string, i int)
	}{
		{"PublicIPAddresses", g.PublicIPAddresses, false, address}, {"PublicIPAddressesV6", g.PublicIPAddressesV6, true, address},
		{"PublicIPPrefixes", g.PublicIPPrefixes, false, prefix}, {"PublicIPPrefixesV6", g.PublicIPPrefixesV6, true, prefix},
	} {
		for i, id := range list.ids {
			if at := problems.Index(list.field, i); !list.is6 || r.knows(id.ID, at+".ID") {
				list.take(id.ID, at, i)
			}
		}
	}
	r.moved(path[:len(path)-1], "")
	r.moved(path+"IdleTimeout", "IdleTimeoutInMinutes")
	r.moved(path+"SKU", "SKU.Name")
	c.NATGatewayProfile.NATGateway = to
}

// knows reports whether a file has the address of a resource, and tells if none has: for IPv6 nothing stands for it.
func (r *azureReader) knows(id, from string) bool {
	_, ok := r.resource(id)
	if !ok {
		r.badAt(r.place(from, "id"), lastOf(id), flow.ErrMissing, "the address is in no file: az network public-ip list (public-ip prefix list) prints it, and a cluster file can give it under addresses")
	}
	return ok
}

// virtualNetwork takes over the network that the nodes are in, and its subnets and peerings.
func (r *azureReader) virtualNetwork(d doc) {
	var v azureVNet
	r.decode(d, &v)
	to := &r.cluster.Config.VNet
	if to.Name != "" && !strings.EqualFold(to.Name, v.Name) && r.whose == nil {
		r.omit(r.place("Name", "name"), v.Name, "the nodes are in %s", to.Name)
		return
	}
	if r.whose != nil {
		r.badAt(r.place("Name", "name"), v.Name, flow.ErrDuplicateName, "there is a virtual network in %s:%d already", r.whose.file, r.whose.node.Line)
		return
	}
	r.whose = &d
	to.Name, to.ResourceGroup = v.Name, partOf(v.ID, "resourceGroups")
	r.moved("VNet", "")
	for i, p := range v.AddressSpace.AddressPrefixes {
		if r.has(p) {
			r.moved(problems.Index("VNet.AddressSpaces", len(to.AddressSpaces)), problems.Index("AddressSpace.AddressPrefixes", i))
			to.AddressSpaces = append(to.AddressSpaces, p)
		}
	}
	for i := range v.Subnets {
		r.ownSubnet(&v.Subnets[i], problems.Index("Subnets", i)+".")
	}
	for i := range v.Peerings {
		r.peering(&v.Peerings[i], problems.Index("Peerings", i)+".")
	}
}

// has reports whether a prefix is of a family that the cluster has.
func (r *azureReader) has(p netip.Prefix) bool {
	return p.IsValid() && (p.Addr().Is4() || r.cluster.Config.IPFamilies == "ipv4,ipv6")
}

// ownSubnet takes over a subnet, whose fields are at a Go path.
func (r *azureReader) ownSubnet(s *azureSubnet, from string) {
	to := &r.cluster.Config.VNet
	own := overlay.Subnet{Name: s.Name}
	all, at := s.AddressPrefixes, func(i int) string { return problems.Index(from+"AddressPrefixes", i) }
	if len(all) == 0 && s.AddressPrefix.IsValid() {
		all, at = append(all, s.AddressPrefix), func(int) string { return from + "AddressPrefix" }
	}
	path, families := problems.Index("VNet.Subnets", len(to.Subnets)), make(map[bool]bool)
	for i, p := range all {
		if r.has(p) {
			r.moved(problems.Index(path+".AddressPrefixes", len(own.AddressPrefixes)), at(i))
			own.AddressPrefixes, families[p.Addr().Is4()] = append(own.AddressPrefixes, p), true
		}
	}
	used := slices.ContainsFunc(r.cluster.Config.NodePools, func(p overlay.NodePool) bool { return p.Subnet == s.Name })
	if !used && len(families) < 1+strings.Count(r.cluster.Config.IPFamilies, ",") {
		return // of one family only, and for something else
	}
	r.moved(path, strings.TrimSuffix(from, "."))
	to.Subnets = append(to.Subnets, own)
}

// peering takes over the ranges of a network that is connected.
func (r *azureReader) peering(p *azurePeering, from string) {
	if p.PeeringState != "" && !strings.EqualFold(p.PeeringState, "connected") {
		r.omit(r.place(from+"PeeringState", "peeringState"), p.PeeringState, "the network is not reached")
		return
	}
	all, field := p.RemoteVirtualNetworkAddressSpace.AddressPrefixes, "RemoteVirtualNetworkAddressSpace"
	if len(all) == 0 {
		all, field = p.RemoteAddressSpace.AddressPrefixes, "RemoteAddressSpace"
	}
	to := &r.cluster.Config.VNet
	for i, prefix := range all {
		if r.has(prefix) && !slices.Contains(to.PeeredPrefixes, prefix) {
			r.moved(problems.Index("VNet.PeeredPrefixes", len(to.PeeredPrefixes)), problems.Index(from+field+".AddressPrefixes", i))
			to.PeeredPrefixes = append(to.PeeredPrefixes, prefix)
		}
	}
}

// balancer takes over the outbound rule of a load balancer.
func (r *azureReader) balancer(d doc) {
	var b azureBalancer
	r.decode(d, &b)
	for i := range b.OutboundRules {
		r.outboundRule(&b.OutboundRules[i], problems.Index("OutboundRules", i)+".")
	}
	if len(b.LoadBalancingRules) > 0 {
		r.omit(r.place("LoadBalancingRules", ""), "", balancingReason)
	}
}

// balancingReason says why rules of load balancing are not read.
const balancingReason = "rules and probes are those that AKS makes of the Services in the files: what is changed by hand it takes back"

// fromNetwork reads what is around the cluster that az has described, if any.
func (r *azureReader) fromNetwork() {
	for _, d := range r.around.vnets {
		r.virtualNetwork(d)
	}
	for _, d := range r.around.subnets {
		var s azureSubnet
		r.decode(d, &s)
		if !slices.ContainsFunc(r.cluster.Config.VNet.Subnets, func(o overlay.Subnet) bool { return o.Name == s.Name }) {
			r.ownSubnet(&s, "")
			r.spaces(s.Name)
		}
	}
	for i := range r.cluster.Config.NodePools { // az names no subnet that AKS has made
		p := &r.cluster.Config.NodePools[i]
		if p.Subnet == "" && slices.ContainsFunc(r.cluster.Config.VNet.Subnets, func(s overlay.Subnet) bool { return s.Name == managedSubnet }) {
			p.Subnet = managedSubnet
		}
	}
	for _, d := range r.around.peerings {
		var p azurePeering
		r.decode(d, &p)
		r.peering(&p, "")
	}
	for _, d := range r.around.gateways {
		r.natGateway(d)
	}
	for _, d := range r.around.balancers {
		r.balancer(d)
	}
	if rules := r.around.rules; len(rules) > 0 {
		r.omit(decode.Place{File: rules[0].file, Line: rules[0].node.Line}, "", balancingReason)
	}
}

// spaces makes a subnet that stands alone, without its network, the address space of itself.
func (r *azureReader) spaces(name string) {
	if r.whose != nil {
		return
	}
	v := &r.cluster.Config.VNet
	for _, s := range v.Subnets {
		if s.Name == name {
			v.AddressSpaces = append(v.AddressSpaces, s.AddressPrefixes...)
		}
	}
}

// namePublicIPs gives the cluster the public IPs and prefixes that Services name, as far as a file has their addresses.
func (r *reader) namePublicIPs() {
	c := &r.cluster.Config
	for i := range r.cluster.Services {
		s := &r.cluster.Services[i]
		for _, suffix := range []string{"", "-ipv6"} {
			if name := s.Annotations[annotationPIP+"name"+suffix]; name != "" && !slices.ContainsFunc(c.PublicIPs, func(p overlay.PublicIP) bool { return p.Name == name }) {
				if text, ok := r.resource(name); ok {
					if a, ok := parseAddress(text); ok {
						c.PublicIPs = append(c.PublicIPs, overlay.PublicIP{Name: name, Address: a})
					}
				}
			}
			if id := s.Annotations[annotationPIP+"prefix-id"+suffix]; id != "" && !slices.ContainsFunc(c.PublicIPPrefixes, func(p overlay.PublicIPPrefix) bool { return p.ID == id }) {
				if text, ok := r.resource(id); ok {
					if p, ok := asPrefix(text); ok {
						c.PublicIPPrefixes = append(c.PublicIPPrefixes, overlay.PublicIPPrefix{ID: id, Prefix: p})
					}
				}
			}
		}
	}
}
