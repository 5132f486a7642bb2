// Package security says what stands in the network security groups of a cluster: those of
// the user, and the one that AKS makes for the interfaces of nodes, with rules for the host
// ports of node pools and for Services of type LoadBalancer.
//
// The only type is [Cluster], which is data; there is no state and no lock. [Cluster.Groups]
// makes all rules anew from it, so the rules of a Service are there as long as the
// Service is, and rules that the user has written stay as they are: those of a user's group that
// has the name [GroupName] come first, and what AKS adds takes priorities that they leave.
//
// It refuses to know pods, packets and load balancers. Which group is asked about a flow
// is the caller's business, and what the groups then say is that of package nsg.
//
// Sources: pkg/provider/securitygroup of kubernetes-sigs/cloud-provider-azure, and the AKS
// documents "Use instance-level public IPs" and "Use a public standard load balancer".
package security

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
)

// GroupName is the name of the group that AKS makes, here without the cluster's hash in it.
const GroupName = "aks-agentpool-nsg"

// Cluster is what decides about rules.
type Cluster struct {
	User           *nsg.Config    // the user's groups; may be nil
	VirtualNetwork []netip.Prefix // what the tag stands for, unless User says
	Beyond         bool           // nodes are reached from outside of the virtual network without public addresses, too
	Nodes          []Node
	Pools          []Pool
	Services       []Service // of type LoadBalancer, in the order of their creation
}

// Node is a node of the cluster, whose interface has the group of AKS, unless User has
// an interface with one of its addresses.
type Node struct {
	Name, Pool string
	Addrs      []netip.Addr // private
	Public     bool         // it has a public address of its own
}

// Pool is a node pool.
type Pool struct {
	Name             string
	AllowedHostPorts string // see nsg.ParseHostPorts; "" is none
}

// Service is a Service of type LoadBalancer. Nodes are filled in.
type Service struct {
	Name string
	nsg.Service
}

// Groups returns all groups and what they are associated with. ok is false if they decide about
// nothing: the user has none, there is no Service, and nobody outside of the virtual network reaches
// a node. The error joins what is wrong with rules that are added, and what [nsg.Config.Validate] finds
// in the result; if User is valid by itself, it is about what AKS adds.
func (c *Cluster) Groups() (config nsg.Config, ok bool, err error) {
	config, _, ok, err = c.groups()
	if err != nil {
		return nsg.Config{}, ok, err
	}
	return config, ok, config.Validate()
}

// ClusterGroup returns only the group that AKS makes, with what it is associated with and the
// application security groups that it names. It is for reading.
func (c *Cluster) ClusterGroup() (config nsg.Config, ok bool, err error) {
	all, group, ok, err := c.groups()
	if err != nil || !ok {
		return nsg.Config{}, false, err
	}
	config.VirtualNetwork, config.ServiceTags = all.VirtualNetwork, all.ServiceTags
	config.NetworkSecurityGroups = []nsg.NetworkSecurityGroup{group}
	config.ApplicationSecurityGroups = all.ApplicationSecurityGroups
	for _, n := range all.NetworkInterfaces {
		if n.NetworkSecurityGroup == GroupName {
			config.NetworkInterfaces = append(config.NetworkInterfaces, n)
		}
	}
	return config, true, nil
}

// groups returns all groups, and that of AKS once more.
func (c *Cluster) groups() (config nsg.Config, own nsg.NetworkSecurityGroup, ok bool, err error) {
	public := slices.ContainsFunc(c.Nodes, func(n Node) bool { return n.Public })
	if c.User == nil && !public && !c.Beyond && len(c.Services) == 0 {
		return nsg.Config{}, own, false, nil
	}
	if c.User != nil {
		config = c.User.Clone()
	}
	if len(config.VirtualNetwork) == 0 {
		config.VirtualNetwork = c.VirtualNetwork
	}
	groups := &config.NetworkSecurityGroups
	at := slices.IndexFunc(*groups, func(g nsg.NetworkSecurityGroup) bool { return g.Name == GroupName })
	if at < 0 {
		at = len(*groups)
		*groups = append(*groups, nsg.NetworkSecurityGroup{Name: GroupName})
	}
	c.associate(&config)
	g := &(*groups)[at]
	if err := c.hostPorts(&config, g); err != nil {
		return nsg.Config{}, own, true, err
	}
	nodes := make(map[[2]bool][]netip.Addr) // by which families they are of
	for _, s := range c.Services {
		if s.DisableFloatingIP { // of the families that it has: our choice
			families := familiesOf(s.Frontends)
			if nodes[families] == nil {
				for i := range c.Nodes {
					for _, a := range c.Nodes[i].Addrs {
						if families[flow.Family(a)] {
							nodes[families] = append(nodes[families], a)
						}
					}
				}
			}
			s.Nodes = nodes[families]
		}
		rules, err := nsg.AddService(g.SecurityRules, s.Service)
		if err != nil {
			return nsg.Config{}, own, true, fmt.Errorf("Service %q: security group %s: %w", s.Name, GroupName, err)
		}
		g.SecurityRules = rules
	}
	return config, *g, true, nil
}

// familiesOf returns which families addresses are of.
func familiesOf(addrs []netip.Addr) (families [2]bool) {
	for _, a := range addrs {
		families[flow.Family(a)] = true
	}
	return families
}

// associate gives the group of AKS to the interfaces of nodes that the user says nothing about.
func (c *Cluster) associate(config *nsg.Config) {
	given := make(map[netip.Addr]bool)
	for _, n := range config.NetworkInterfaces {
		for _, a := range n.Addrs {
			given[a] = true
		}
	}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if !slices.ContainsFunc(n.Addrs, func(a netip.Addr) bool { return given[a] }) {
			config.NetworkInterfaces = append(config.NetworkInterfaces, nsg.NetworkInterface{
				Name: n.Name, Addrs: n.Addrs, NetworkSecurityGroup: GroupName,
			})
		}
	}
}

// hostPorts adds the rules of pools, each with an application security group of the pool's
// nodes that have public addresses.
func (c *Cluster) hostPorts(config *nsg.Config, g *nsg.NetworkSecurityGroup) error {
	for _, p := range c.Pools {
		if p.AllowedHostPorts == "" {
			continue
		}
		group := nsg.ApplicationSecurityGroup{Name: "asg-" + p.Name}
		for i := range c.Nodes {
			if n := &c.Nodes[i]; n.Public && n.Pool == p.Name {
				group.Addrs = append(group.Addrs, n.Addrs...)
			}
		}
		if len(group.Addrs) == 0 {
			continue
		}
		ports, err := nsg.ParseHostPorts(p.AllowedHostPorts)
		if err != nil {
			return fmt.Errorf("node pool %q: %w", p.Name, err)
		}
		config.ApplicationSecurityGroups = append(config.ApplicationSecurityGroups, group)
		if g.SecurityRules, err = nsg.AddHostPorts(g.SecurityRules, ports, group.Name); err != nil {
			return fmt.Errorf("node pool %q: security group %s: %w", p.Name, GroupName, err)
		}
	}
	return nil
}
