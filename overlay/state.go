// What is in force: the nodes by whom packets are recognised. A state never changes; a new
// one takes its place when the configuration changes.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/turns"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/locality"
	"github.com/seed-a61be3fe/natplane/overlay/internal/machine"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
)

// state is a configuration in force.
type state struct {
	given        ClusterConfig // as the user wrote it
	config       ClusterConfig // with defaults
	egress       lb.EgressConfig
	*fleet.Fleet                // whose nodes have their Index
	extra        map[string]int // nodes that a pool has besides its Count

	byIndex []*fleet.Node // nil where there is none
	byName  map[string]int
	byAddr  map[netip.Addr]int // node addresses
	places  addressing.Places
	live    []*podtable.Bits // by Index, or nil if packets are not checked against it

	internal *servicelb.Frontends // of internal Services
	public   *servicelb.Frontends // of public ones, for clients in the ranges of service endpoints; nil without these
	services *locality.Table      // the ranges of service endpoints, or nil
	gateways *staticgateway.Set   // nil if there have never been any

	strict   bool
	routed   bool // what goes to the Internet is the nodes' to route
	local    *locality.Table
	machines *machine.Set // nil if nothing bounds them
	dns      bool         // queries of Azure DNS are bounded
	admitted *admission.Rules
}

// newState returns the state of a configuration, valid and with defaults, and its fleet.
// indexes are the nodes' by name; bits are those of nodes that there are already, by name.
func newState(c ClusterConfig, egress lb.EgressConfig, a *admission.Rules, f *fleet.Fleet, extra, indexes map[string]int, bits func(name string) *podtable.Bits) *state {
	s := &state{
		config: c, admitted: a, Fleet: f, extra: extra,
		byName: make(map[string]int, len(f.Nodes)), byAddr: make(map[netip.Addr]int, len(f.Nodes)*int(numFamilies)),
		strict: c.StrictPodAddresses, routed: c.OutboundType == OutboundUserDefinedRouting,
		local: locality.New(c.localRoutes()), dns: c.countsDNS(), places: addressing.Places{Whole: c.NetworkPlugin == cni.NodeSubnet},
	}
	if rows := c.serviceRoutes(); len(rows) > 0 {
		s.services = locality.New(rows)
	}
	s.setEgress(egress)
	for i := range f.Nodes {
		turns.Step(i)
		n := &f.Nodes[i]
		n.Index = indexes[n.Name]
		s.byIndex = slices.Grow(s.byIndex, 1)
		for n.Index >= len(s.byIndex) {
			s.byIndex = append(s.byIndex, nil)
		}
		s.byIndex[n.Index], s.byName[n.Name] = n, n.Index
		for _, a := range n.Addrs {
			s.byAddr[a] = n.Index
		}
		s.places.Add(n.Index, n.Addrs, n.PodBlocks)
	}
	if s.strict {
		s.live = make([]*podtable.Bits, len(s.byIndex))
		for i, n := range s.byIndex {
			if n != nil {
				s.live[i] = bits(n.Name)
			}
		}
	}
	return s
}

// setEgress notes the egress in force.
func (s *state) setEgress(egress lb.EgressConfig) {
	s.egress, s.internal, s.public = egress, servicelb.NewFrontends(egress.InternalLoadBalancers), nil
	if s.services != nil {
		s.public = servicelb.NewPublicFrontends(&egress.LoadBalancer)
	}
}

// nodeOf returns the node that an address is of, its own or one of its pods'.
func (s *state) nodeOf(a netip.Addr) (node int, ok bool) {
	if node, ok = s.byAddr[a]; ok {
		return node, true
	}
	node, _, ok = s.places.Locate(a)
	return node, ok
}

// has reports whether there is a node of a name.
func (s *state) has(name string) bool { _, ok := s.byName[name]; return ok }

// node returns the node of an index, or nil.
func (s *state) node(index int) *fleet.Node {
	if index < 0 || index >= len(s.byIndex) {
		return nil
	}
	return s.byIndex[index]
}

// spoofs reports whether the strict check refuses a packet: its source is one of a
// node's pod addresses, and no pod has it. Packets too short to tell are left to the
// parser.
func (s *state) spoofs(pkt []byte) bool {
	src, _ := addressing.Ends(pkt)
	node, offset, ok := s.places.Locate(src)
	return ok && !s.live[node].Has(offset)
}

// staysOnNode reports whether a packet between local addresses passes as it is: it never leaves
// its node, being between that and one of its pods, or for its DNS cache; or it is between a node
// and a pod in a protocol that nobody follows, so that nobody knows who has begun.
func (s *state) staysOnNode(pkt []byte) (node int, stays bool) {
	src, dst := addressing.Ends(pkt)
	from, fromNode := s.byAddr[src]
	to, toNode := s.byAddr[dst]
	switch {
	case fromNode == toNode: // neither, or from node to node
		node, _, ok := s.places.Locate(src)
		return node, ok && (dst == localDNS[0] || dst == localDNS[1]) && s.config.pool(s.byIndex[node].Pool).LocalDNS
	case fromNode:
		node, _, ok := s.places.Locate(dst)
		return from, ok && (node == from || addressing.Unfollowed(pkt))
	}
	node, _, ok := s.places.Locate(src)
	return node, ok && (node == to || addressing.Unfollowed(pkt))
}
