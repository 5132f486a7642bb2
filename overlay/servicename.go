// Services that packets do not meet: headless ones and ExternalName, which are entries of
// the cluster's DNS. Read "DNS for Services and Pods" of Kubernetes first.

package overlay

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// hasFrontends reports whether nodes translate packets to the Service.
func (s *Service) hasFrontends() bool { return !s.Headless && s.Type != ExternalName }

// hasNodePorts reports whether the Service is reached by ports of nodes.
func (s *Service) hasNodePorts() bool { return s.Type == NodePort || s.Type == LoadBalancer }

// dnsName is a name of the DNS as Kubernetes wants it (RFC 1123 section 2.1).
var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)

// validateNames reports what is wrong with a Service that is a name only.
func (s *Service) validateNames(l *problems.List) {
	if s.Headless && s.Type != ClusterIP {
		l.Add("Headless", s.Headless, flow.ErrConflict, "Type is %v", s.Type)
	}
	if !s.hasFrontends() && len(s.ClusterIPs) > 0 {
		l.Add("ClusterIPs", s.ClusterIPs, flow.ErrConflict, "a Service that is headless, or of type ExternalName, has none")
	}
	switch name := strings.TrimSuffix(s.ExternalName, "."); {
	case s.Type != ExternalName && name != "":
		l.Add("ExternalName", s.ExternalName, flow.ErrConflict, "Type is %v", s.Type)
	case s.Type == ExternalName && name == "":
		l.Add("ExternalName", s.ExternalName, flow.ErrMissing, "Type is %v", s.Type)
	case s.Type == ExternalName && (len(name) > 253 || !dnsName.MatchString(name)):
		l.Add("ExternalName", s.ExternalName, flow.ErrSyntax, "want a name of the DNS such as db.example.com")
	}
	if s.Type == ExternalName && s.SessionAffinity {
		l.Add("SessionAffinity", s.SessionAffinity, flow.ErrConflict, "Type is %v", s.Type)
	}
}

// Resolve returns what the cluster's DNS answers about a Service: its cluster IPs; of a headless
// one the addresses of its endpoints that do not terminate, in the order of SetEndpoints and of the Service's
// families; of one of type ExternalName the name that clients ask for instead. ok is false if there
// is no such Service.
func (c *Cluster) Resolve(service string) (addrs []netip.Addr, name string, ok bool) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	e, ok := c.services.byName[service]
	switch {
	case !ok:
		return nil, "", false
	case e.hasFrontends():
		return slices.Clone(e.ClusterIPs), "", true
	case e.Type == ExternalName:
		return nil, e.ExternalName, true
	}
	s := c.state.Load()
	for _, ep := range e.endpoints {
		if ep.Terminating {
			continue
		}
		all, _, ok := c.addrsOf(s, ep)
		for _, a := range all {
			if ok && slices.Contains(e.families(), familyOf(a)) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, "", true
}

// addrsOf returns the addresses of an endpoint, and the index of its node, -1 for one outside of
// the cluster. ok is false if it has just gone.
func (c *Cluster) addrsOf(s *state, ep Endpoint) (addrs []netip.Addr, node int, ok bool) {
	switch {
	case ep.Pod != "":
		pod, ok := c.Pod(ep.Pod)
		if !ok {
			return nil, 0, false
		}
		node, ok := s.byName[pod.Node]
		return pod.Addrs, node, ok
	case ep.Node != "":
		node, ok := s.byName[ep.Node]
		if !ok {
			return nil, 0, false
		}
		return s.byIndex[node].Addrs, node, true
	}
	return []netip.Addr{ep.Addr}, -1, true
}

// checkEndpoint reports what is wrong with an endpoint.
func (c *Cluster) checkEndpoint(e *serviceEntry, ep Endpoint, at string, l *problems.List) {
	pod, node, addr := ep.Pod != "", ep.Node != "", ep.Addr.IsValid()
	switch {
	case pod && node || pod && addr || node && addr || !(pod || node || addr):
		l.Add(at, problems.None, flow.ErrMissing, "exactly one of Pod %q, Node %q and Addr %v must be given", ep.Pod, ep.Node, ep.Addr)
	case addr:
		c.checkOutsideEndpoint(e, ep.Addr, at+".Addr", l)
	case !c.exists(ep) && pod:
		l.Add(at+".Pod", ep.Pod, flow.ErrUnknownName, "no such pod")
	case !c.exists(ep):
		l.Add(at+".Node", ep.Node, flow.ErrUnknownName, "no such node")
	}
}

// checkOutsideEndpoint reports what is wrong with an endpoint outside of the cluster.
func (c *Cluster) checkOutsideEndpoint(e *serviceEntry, a netip.Addr, at string, l *problems.List) {
	s, host := c.state.Load(), netip.PrefixFrom(a, a.BitLen())
	_, node := s.byAddr[a]
	switch {
	case !flow.IsHost(a) || a.IsLinkLocalUnicast():
		l.Add(at, a, flow.ErrAddress, "")
	case !slices.Contains(e.families(), familyOf(a)):
		l.Add(at, a, ErrFamily, "IPFamilies is %q", e.IPFamilies)
	case node || s.isOfPods(a):
		l.Add(at, a, flow.ErrConflict, "it is of the cluster: name the pod or the node")
	case ranges.Within(host, s.config.ServiceCIDRs) || c.services.has(a):
		l.Add(at, a, flow.ErrConflict, "it is of a Service")
	}
}

// has reports whether a Service has an address. s.mu must be held.
func (s *services) has(a netip.Addr) bool {
	for _, e := range s.byName {
		if slices.Contains(e.ClusterIPs, a) || slices.Contains(e.addrs, a) {
			return true
		}
	}
	return false
}
