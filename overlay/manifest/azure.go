// What az prints: which object of Azure a document is, and what a cluster is made of it.

package manifest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// azure puts an object of Azure to those of its kind: by its type, or by fields that only
// that kind has.
func (r *reader) azure(d doc) {
	if d.node.Kind != document.Map {
		r.bad(d, flow.ErrSyntax, "must be a map of fields, as az prints it")
		return
	}
	has := func(name string) bool {
		return slices.ContainsFunc(d.node.Fields, func(f document.Field) bool { return strings.EqualFold(f.Name, name) })
	}
	switch kind := strings.ToLower(d.node.TextOf("type")); {
	case kind == "microsoft.containerservice/managedclusters", has("agentPoolProfiles"):
		r.managed = append(r.managed, d)
		if len(r.managed) > 1 {
			r.bad(d, flow.ErrDuplicateName, "there is a cluster in %s:%d already", r.managed[0].file, r.managed[0].node.Line)
		}
	case kind == "microsoft.containerservice/managedclusters/agentpools", has("orchestratorVersion"):
		r.pools = append(r.pools, d)
	case r.around.put(d, kind, has):
	case kind == "microsoft.network/loadbalancers/outboundrules", has("frontendIPConfigurations"):
		r.rules = append(r.rules, d)
	case kind != "":
		r.bad(d, ErrNotModelled, "no use is made of this type of object")
	default:
		r.bad(d, flow.ErrSyntax, "is neither a Kubernetes object (apiVersion and kind), nor a cluster file (apiVersion: %s), nor what az aks or az network print of a cluster (-o json)", clusterVersion)
	}
}

// azureReader reads the objects of az.
type azureReader struct {
	*reader
	read  map[string]decode.Place // of the object under way, by Go path
	whose *doc                    // the virtual network; nil if there is none yet
}

// decode reads an object into what to points at.
func (r *azureReader) decode(d doc, to any) {
	x := r.decoder(decode.Azure, d.file)
	x.Places = make(map[string]decode.Place)
	x.Value(d.node, to, d.path)
	r.read = x.Places
}

// moved notes that a field of the configuration was read as another one of the object.
func (r *azureReader) moved(config, from string) {
	if at, ok := r.read[from]; ok {
		r.places[config] = at
	}
}

// fromAzure makes a configuration of what az has printed.
func (r *reader) fromAzure() {
	a := azureReader{reader: r}
	a.publicAddresses()
	for _, d := range r.managed {
		var m azureCluster
		a.decode(d, &m)
		a.managedCluster(&m)
	}
	for _, d := range r.pools {
		var p azurePool
		a.decode(d, &p)
		a.agentPool(&p, "")
	}
	for _, d := range r.rules {
		var rule azureRule
		a.decode(d, &rule)
		a.outboundRule(&rule, "")
	}
	a.fromNetwork()
}

// managedCluster takes over a cluster.
func (r *azureReader) managedCluster(m *azureCluster) {
	c := &r.cluster.Config
	c.Name = m.Name
	r.moved("Name", "Name")
	n := &m.NetworkProfile
	r.plugin(n)
	r.linkLocal(n)
	r.askedOfCluster(m)
	c.IPFamilies = strings.ToLower(strings.Join(n.IPFamilies, ","))
	c.PodCIDRs, c.ServiceCIDRs, c.DNSServiceIP, c.OutboundType = n.PodCIDRs, n.ServiceCIDRs, n.DNSServiceIP, n.OutboundType
	if len(c.PodCIDRs) == 0 && n.PodCIDR.IsValid() {
		c.PodCIDRs = append(c.PodCIDRs, n.PodCIDR)
	}
	if len(c.ServiceCIDRs) == 0 && n.ServiceCIDR.IsValid() {
		c.ServiceCIDRs = append(c.ServiceCIDRs, n.ServiceCIDR)
	}
	for _, name := range []string{"IPFamilies", "DNSServiceIP", "OutboundType", "LoadBalancerProfile", "NATGatewayProfile"} {
		r.moved(name, "NetworkProfile."+name)
	}
	for _, name := range []string{"PodCIDR", "ServiceCIDR"} {
		r.moved(name+"s", "NetworkProfile."+name)
		r.moved(problems.Index(name+"s", 0), "NetworkProfile."+name)
		r.moved(name+"s", "NetworkProfile."+name+"s")
		for i := range 2 {
			r.moved(problems.Index(name+"s", i), problems.Index("NetworkProfile."+name+"s", i))
		}
	}
	c.NetworkPolicyEngine, r.cluster.policies.stated = n.NetworkPolicy, true
	r.moved("NetworkPolicyEngine", "NetworkProfile.NetworkPolicy")
	if p := n.LoadBalancerProfile; p != nil {
		r.loadBalancer(p)
	}
	if p := n.NATGatewayProfile; p != nil {
		r.gateway(p)
	}
	for i := range m.AgentPoolProfiles {
		r.agentPool(&m.AgentPoolProfiles[i], problems.Index("AgentPoolProfiles", i))
	}
}

// plugin takes over the network plugin, and the SKU of load balancers.
func (r *azureReader) plugin(n *azureNetwork) {
	refuse := func(field, value, rule string) {
		r.badAt(r.place("NetworkProfile."+field, "networkProfile."+decode.LowerCamel(field)), value, ErrNotModelled, "%s", rule)
	}
	c := &r.cluster.Config
	mode, field := strings.ToLower(n.NetworkPluginMode), "NetworkPlugin"
	switch plugin := strings.ToLower(n.NetworkPlugin); {
	case plugin == "" && mode == "":
	case plugin == "kubenet":
		c.NetworkPlugin = cni.Kubenet
		if mode != "" {
			refuse("NetworkPluginMode", n.NetworkPluginMode, "kubenet has no mode")
		}
	case plugin != "azure":
		refuse("NetworkPlugin", n.NetworkPlugin, "azure and kubenet are: with other plugins the user decides what addresses pods have")
	case mode == "":
		c.NetworkPlugin = cni.NodeSubnet
	case mode != "overlay":
		refuse("NetworkPluginMode", n.NetworkPluginMode, "overlay is, and none")
	default:
		field = "NetworkPluginMode"
	}
	r.moved("NetworkPlugin", "NetworkProfile."+field)
	switch strings.ToLower(n.LoadBalancerSku) {
	case "", "standard":
	case "basic":
		r.cluster.Config.LoadBalancerSKU = lb.Basic
		r.moved("LoadBalancerSKU", "NetworkProfile.LoadBalancerSku")
	default:
		refuse("LoadBalancerSku", n.LoadBalancerSku, "standard and basic are")
	}
}

// place returns where a field of the object under way stands; otherwise where the object begins.
func (r *azureReader) place(golang, written string) decode.Place {
	at, ok := r.read[golang]
	if !ok {
		at = r.read[""]
		at.Field = problems.Field(at.Field, written)
	}
	return at
}

// loadBalancer takes over the outbound IPs and ports of a load balancer.
func (r *azureReader) loadBalancer(p *azureLoadBalancer) {
	c := &r.cluster.Config.LoadBalancerProfile
	const from = "NetworkProfile.LoadBalancerProfile"
	switch mode := strings.ToLower(p.HealthProbeMode); mode {
	case "", "servicenodeport":
	case "shared":
		c.ClusterServiceLoadBalancerHealthProbeMode = overlay.HealthProbeShared
		r.moved("LoadBalancerProfile.ClusterServiceLoadBalancerHealthProbeMode", from+".HealthProbeMode")
	default:
		r.omit(r.read[from+".HealthProbeMode"], p.HealthProbeMode, "ServiceNodePort or Shared")
	}
	if kind := r.cluster.Config.OutboundType; kind != overlay.OutboundLoadBalancer { // az may print the profile all the same
		if p.AllocatedOutboundPorts != 0 || p.IdleTimeoutInMinutes != 0 || len(p.OutboundIPs.PublicIPs) > 0 || len(p.OutboundIPPrefixes.PublicIPPrefixes) > 0 {
			r.omit(r.read[from], "", "outboundType is %v: traffic leaves by that", kind)
		}
		return
	}
	c.AllocatedOutboundPorts, c.IdleTimeout = p.AllocatedOutboundPorts, minutes(p.IdleTimeoutInMinutes)
	r.moved("LoadBalancerProfile.AllocatedOutboundPorts", from+".AllocatedOutboundPorts")
	r.moved("LoadBalancerProfile.IdleTimeout", from+".IdleTimeoutInMinutes")
	for i, id := range p.OutboundIPs.PublicIPs {
		at := problems.Index(from+".OutboundIPs.PublicIPs", i)
		r.moved(problems.Index("LoadBalancerProfile.OutboundIPs", i), at)
		c.OutboundIPs = append(c.OutboundIPs, r.address(id.ID, at+".ID", i))
	}
	for i, id := range p.OutboundIPPrefixes.PublicIPPrefixes {
		at := problems.Index(from+".OutboundIPPrefixes.PublicIPPrefixes", i)
		r.moved(problems.Index("LoadBalancerProfile.OutboundIPPrefixes", i), at)
		if prefix, ok := r.prefix(id.ID, at+".ID", i, 28); ok {
			c.OutboundIPPrefixes = append(c.OutboundIPPrefixes, prefix)
		}
	}
	if len(c.OutboundIPs) > 0 || len(c.OutboundIPPrefixes) > 0 {
		return
	}
	if known, ok := r.effective(p.EffectiveOutboundIPs); ok {
		c.OutboundIPs = known
		return
	}
	c.ManagedOutboundIPCount, c.ManagedOutboundIPCountIPv6 = p.ManagedOutboundIPs.Count, p.ManagedOutboundIPs.CountIPv6
	r.moved("LoadBalancerProfile.ManagedOutboundIPCount", from+".ManagedOutboundIPs.Count")
	r.moved("LoadBalancerProfile.ManagedOutboundIPCountIPv6", from+".ManagedOutboundIPs.CountIPv6")
	if len(p.EffectiveOutboundIPs) > 0 {
		r.omit(r.read[from+".EffectiveOutboundIPs"], "", "the addresses of the outbound IPs are in no file, such as az network public-ip list prints; others stand for them")
	}
}

// gateway takes over the profile of a NAT gateway that AKS manages.
func (r *azureReader) gateway(p *azureGateway) {
	c := &r.cluster.Config
	if t := c.OutboundType; t != overlay.OutboundManagedNATGateway && t != overlay.OutboundManagedNATGatewayV2 {
		return // az prints the profile of clusters without gateway, too
	}
	g := &c.NATGatewayProfile
	g.ManagedOutboundIPCount, g.ManagedOutboundIPCountIPv6 = p.ManagedOutboundIPProfile.Count, p.ManagedOutboundIPProfile.CountIPv6
	g.IdleTimeout = minutes(p.IdleTimeoutInMinutes)
	r.moved("NATGatewayProfile.IdleTimeout", "NetworkProfile.NATGatewayProfile.IdleTimeoutInMinutes")
	r.moved("NATGatewayProfile.ManagedOutboundIPCount", "NetworkProfile.NATGatewayProfile.ManagedOutboundIPProfile.Count")
	r.moved("NATGatewayProfile.ManagedOutboundIPCountIPv6", "NetworkProfile.NATGatewayProfile.ManagedOutboundIPProfile.CountIPv6")
}

// agentPool takes over a node pool, which is at a Go path of the object.
func (r *azureReader) agentPool(p *azurePool, from string) {
	c := &r.cluster.Config
	pool := overlay.NodePool{
		Name: p.Name, Count: p.Count, MaxPods: p.MaxPods, MaxSurge: p.UpgradeSettings.MaxSurge,
		LocalDNS: strings.EqualFold(p.LocalDNSProfile.State, "enabled") || strings.EqualFold(p.LocalDNSProfile.Mode, "required"),
	}
	if p.EnableAutoScaling {
		pool.MinCount, pool.MaxCount = p.MinCount, p.MaxCount
	}
	if sku := strings.ToLower(p.OSSKU); strings.HasPrefix(sku, "azurelinux") || strings.Contains(sku, "mariner") { // its name before
		pool.OSSKU = overlay.AzureLinux
	}
	if strings.EqualFold(p.Mode, overlay.ModeGateway.String()) {
		pool.Mode, pool.GatewayPublicIPPrefixSize = overlay.ModeGateway, p.GatewayProfile.PublicIPPrefixSize
	}
	if strings.EqualFold(p.OSType, overlay.Windows.String()) {
		pool.OSType, pool.DisableOutboundNAT = overlay.Windows, p.WindowsProfile.DisableOutboundNAT
	}
	pool.Subnet = lastOf(p.VnetSubnetID)
	pool.NodePublicIP.Enabled = p.EnableNodePublicIP
	i := slices.IndexFunc(c.NodePools, func(q overlay.NodePool) bool { return q.Name == p.Name })
	known := i >= 0
	if !known {
		i = len(c.NodePools)
	}
	to := problems.Index("NodePools", i)
	at := r.place(problems.Field(from, "Name"), "name")
	if id := p.NodePublicIPPrefixID; id != "" {
		if text, ok := r.resource(id); ok {
			if prefix, ok := asPrefix(text); ok {
				pool.NodePublicIP.Prefixes = append(pool.NodePublicIP.Prefixes, prefix)
			}
		} else if !known {
			r.omit(r.place(problems.Field(from, "NodePublicIPPrefixID"), ""), lastOf(id), "the range of the prefix is in no file, such as az network public-ip prefix list prints; addresses of 20.60.0.0/16 stand for it")
		}
	}
	for _, tag := range p.NetworkProfile.NodePublicIPTags {
		pool.NodePublicIP.Tags = append(pool.NodePublicIP.Tags, tag.IPTagType+"="+tag.Tag)
	}
	pool.NodePublicIP.AllowedHostPorts = hostPorts(p.NetworkProfile.AllowedHostPorts)
	if known {
		if !samePool(c.NodePools[i], pool) {
			r.badAt(at, p.Name, flow.ErrConflict, "%s says something else of this pool", r.places[to])
		}
		return
	}
	for field, azure := range map[string]string{
		"": "", ".Name": ".Name", ".Count": ".Count", ".MinCount": ".MinCount", ".MaxCount": ".MaxCount", ".MaxPods": ".MaxPods", ".MaxSurge": ".UpgradeSettings.MaxSurge",
		".Subnet": ".VnetSubnetID", ".Mode": ".Mode", ".GatewayPublicIPPrefixSize": ".GatewayProfile.PublicIPPrefixSize", ".NodePublicIP": ".EnableNodePublicIP", ".NodePublicIP.Prefixes": ".NodePublicIPPrefixID", ".NodePublicIP.Prefixes[0]": ".NodePublicIPPrefixID",
		".OSType": ".OSType", ".OSSKU": ".OSSKU", ".DisableOutboundNAT": ".WindowsProfile.DisableOutboundNAT",
		".NodePublicIP.Tags": ".NetworkProfile.NodePublicIPTags", ".NodePublicIP.AllowedHostPorts": ".NetworkProfile.AllowedHostPorts",
	} {
		r.moved(to+field, strings.TrimPrefix(from+azure, "."))
	}
	r.askedOfPool(p, from)
	for i := range p.NetworkProfile.AllowedHostPorts {
		r.moved(problems.Index(to+".NodePublicIP.AllowedHostPorts", i), strings.TrimPrefix(problems.Index(from+".NetworkProfile.AllowedHostPorts", i), "."))
	}
	for i := range p.NetworkProfile.NodePublicIPTags {
		r.moved(problems.Index(to+".NodePublicIP.Tags", i), strings.TrimPrefix(problems.Index(from+".NetworkProfile.NodePublicIPTags", i), "."))
	}
	c.NodePools = append(c.NodePools, pool)
	r.cluster.pools = append(r.cluster.pools, newPool(p))
	r.subnet(p.VnetSubnetID)
}

// samePool reports whether two descriptions of a pool agree in all that is read.
func samePool(a, b overlay.NodePool) bool {
	p, q := a.NodePublicIP, b.NodePublicIP
	ok := slices.Equal(p.Prefixes, q.Prefixes) && slices.Equal(p.Tags, q.Tags) && p.Enabled == q.Enabled && p.AllowedHostPorts == q.AllowedHostPorts
	return ok && a.Count == b.Count && a.MinCount == b.MinCount && a.MaxCount == b.MaxCount && a.MaxSurge == b.MaxSurge &&
		a.MaxPods == b.MaxPods && a.OSType == b.OSType && a.DisableOutboundNAT == b.DisableOutboundNAT && a.OSSKU == b.OSSKU && a.Subnet == b.Subnet &&
		a.Mode == b.Mode && a.GatewayPublicIPPrefixSize == b.GatewayPublicIPPrefixSize && a.LocalDNS == b.LocalDNS
}

// hostPorts writes ranges as overlay reads them.
func hostPorts(ranges []azurePortRange) string {
	var list []string
	for _, p := range ranges {
		text := fmt.Sprintf("%d-%d", p.PortStart, p.PortEnd)
		if p.PortStart == p.PortEnd {
			text = fmt.Sprint(p.PortStart)
		}
		list = append(list, text+"/"+strings.ToLower(p.Protocol))
	}
	return strings.Join(list, ",")
}

// outboundRule takes over an outbound rule of the cluster's load balancer, or compares it with
// what the cluster says. Its fields are below a Go path.
func (r *azureReader) outboundRule(rule *azureRule, from string) {
	at := r.place(from+"Name", "name")
	if !strings.HasPrefix(strings.ToLower(rule.Name), strings.ToLower(overlay.OutboundRuleName)) {
		r.omit(at, rule.Name, "only the outbound rule %s of a cluster is modelled", overlay.OutboundRuleName)
		return
	}
	if rule.Protocol != "" && !strings.EqualFold(rule.Protocol, "all") {
		r.badAt(r.place(from+"Protocol", "protocol"), rule.Protocol, ErrNotModelled, "the outbound rule of a cluster is for All")
	}
	c := &r.cluster.Config.LoadBalancerProfile
	idle := minutes(rule.IdleTimeoutInMinutes)
	if len(r.managed) > 0 {
		if n := c.AllocatedOutboundPorts; n != rule.AllocatedOutboundPorts {
			r.badAt(r.place(from+"AllocatedOutboundPorts", "allocatedOutboundPorts"), rule.AllocatedOutboundPorts, flow.ErrConflict, "%s says %d", r.nearest("LoadBalancerProfile.AllocatedOutboundPorts"), n)
		}
		if c.IdleTimeout != 0 && idle != 0 && c.IdleTimeout != idle {
			r.badAt(r.place(from+"IdleTimeoutInMinutes", "idleTimeoutInMinutes"), rule.IdleTimeoutInMinutes, flow.ErrConflict, "%s says %d", r.nearest("LoadBalancerProfile.IdleTimeout"), int(c.IdleTimeout/time.Minute))
		}
	} else {
		c.AllocatedOutboundPorts = rule.AllocatedOutboundPorts
		r.moved("LoadBalancerProfile.AllocatedOutboundPorts", from+"AllocatedOutboundPorts")
		count := &c.ManagedOutboundIPCount
		if strings.HasSuffix(strings.ToLower(rule.Name), "ipv6") {
			count = &c.ManagedOutboundIPCountIPv6
		}
		*count = len(rule.FrontendIPConfigurations)
		r.moved("LoadBalancerProfile.ManagedOutboundIPCount", from+"FrontendIPConfigurations")
	}
	if idle != 0 {
		c.IdleTimeout = idle
		r.moved("LoadBalancerProfile.IdleTimeout", from+"IdleTimeoutInMinutes")
	}
	if reset := rule.EnableTCPReset; reset != nil {
		c.DisableTCPReset = !*reset
		r.moved("LoadBalancerProfile.DisableTCPReset", from+"EnableTCPReset")
	}
}

// minutes converts minutes; what is out of range stays so.
func minutes(n int) time.Duration { return time.Duration(min(max(n, -1), 1<<20)) * time.Minute }
