// Rules that AKS makes for Services of type LoadBalancer, as its cloud provider does.
// Read pkg/provider/loadbalancer/accesscontrol.go and pkg/provider/securitygroup of
// kubernetes-sigs/cloud-provider-azure first.

package nsg

import (
	"crypto/md5" // a name, no secret
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Priorities of the rules for Services: first to last-1. Rules that allow take the lowest
// one that is free, those that deny the highest.
const (
	firstManagedPriority = 500
	lastManagedPriority  = 4096
)

// Service is what a Service of type LoadBalancer says about who may send to it.
type Service struct {
	Internal bool          // on an internal load balancer
	Ports    []ServicePort // not empty

	Frontends []netip.Addr // its external IPs
	Nodes     []netip.Addr // needed with DisableFloatingIP only

	// DisableFloatingIP is the annotation azure-disable-load-balancer-floating-ip. Flows
	// are for a node and its NodePort then.
	DisableFloatingIP bool

	// LoadBalancerSourceRanges are the prefixes that may send. If a public Service has
	// neither ranges nor tags, the Internet may. With tags, kube-proxy still drops what is
	// not in these ranges, which is no matter of groups.
	LoadBalancerSourceRanges []string
	AllowedIPRanges          []string // annotation azure-allowed-ip-ranges: the same, instead
	AllowedServiceTags       []string // annotation azure-allowed-service-tags, besides ranges

	// DenyAllExceptSourceRanges denies what no range allows to the virtual network, too,
	// which the default rules would let in. It has no effect without a range. It is the
	// annotation azure-deny-all-except-load-balancer-source-ranges. Pods that use the
	// Service by its external IP need their CIDR among the ranges then.
	DenyAllExceptSourceRanges bool
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Protocol Protocol // TCP, UDP, or Any, which is what SCTP becomes
	Port     uint16   // of the frontend
	NodePort uint16   // of the nodes; needed with DisableFloatingIP only
}

// AddService returns rules, those of a group, and what a Service needs besides. It leaves
// its argument alone. Services that allow the same to the same ports share a rule, which
// has the destinations of all. Names are those that AKS gives; priorities are 500..4095.
//
// What is wrong with the Service comes in one error, as of [Config.Validate]. Limits of the
// group are checked when it is compiled.
func AddService(rules []SecurityRule, s Service) ([]SecurityRule, error) {
	ranges, err := s.check()
	if err != nil {
		return nil, err
	}
	m := manager{rules: slices.Clone(rules)}
	sources := append(slices.Clone(s.AllowedServiceTags), s.internet(ranges)...)
	to, port := s.Frontends, func(p ServicePort) uint16 { return p.Port }
	if s.DisableFloatingIP {
		to, port = s.Nodes, func(p ServicePort) uint16 { return p.NodePort }
	}
	for _, proto := range []Protocol{TCP, UDP, Any} {
		var ports []string
		for _, p := range s.Ports {
			if text := strconv.Itoa(int(port(p))); p.Protocol == proto && !slices.Contains(ports, text) {
				ports = append(ports, text)
			}
		}
		for is6 := range 2 {
			if to := texts(to, is6 == 1); len(ports) > 0 && len(to) > 0 {
				for _, tag := range sources {
					m.allow(proto, is6 == 1, []string{tag}, to, ports)
				}
				if own := ofFamily(ranges, is6 == 1); len(own) > 0 {
					m.allow(proto, is6 == 1, own, to, ports)
				}
			}
		}
	}
	if s.DenyAllExceptSourceRanges && len(ranges) > 0 {
		for is6 := range 2 {
			if to := texts(to, is6 == 1); len(to) > 0 {
				m.add(SecurityRule{
					Name: "k8s-azure-lb_deny-all_" + familyName(is6 == 1), Access: Deny,
					SourceAddressPrefixes: []string{everything}, DestinationAddressPrefixes: to, DestinationPortRanges: []string{everything},
				})
			}
		}
	}
	return m.result()
}

// check returns the ranges that may send, without those that lie in others.
func (s *Service) check() (ranges []netip.Prefix, err error) {
	var l problems.List
	if len(s.Ports) == 0 {
		l.Add("Ports", problems.None, flow.ErrMissing, "")
	}
	for i, p := range s.Ports {
		path := problems.Index("Ports", i)
		problems.Constant(&l, path+".Protocol", p.Protocol, UDP+1)
		if s.DisableFloatingIP {
			problems.Between(&l, path+".NodePort", p.NodePort, 1, 0xffff)
		} else {
			problems.Between(&l, path+".Port", p.Port, 1, 0xffff)
		}
	}
	for i, a := range s.Frontends {
		checkHost(&l, problems.Index("Frontends", i), a)
	}
	for i, a := range s.Nodes {
		checkHost(&l, problems.Index("Nodes", i), a)
	}
	if len(s.LoadBalancerSourceRanges) > 0 && len(s.AllowedIPRanges) > 0 {
		l.Add("AllowedIPRanges", strings.Join(s.AllowedIPRanges, ","), flow.ErrConflict, "LoadBalancerSourceRanges are set, too")
	}
	for i, text := range s.AllowedServiceTags {
		if !isName(text) || isEvery(text) {
			l.Add(problems.Index("AllowedServiceTags", i), text, flow.ErrSyntax, "want the name of a service tag")
		}
	}
	for _, list := range []struct {
		name  string
		texts []string
	}{{"LoadBalancerSourceRanges", s.LoadBalancerSourceRanges}, {"AllowedIPRanges", s.AllowedIPRanges}} {
		for i, text := range list.texts {
			p, ok, err := parsePrefix(text)
			if !ok || !strings.Contains(text, "/") {
				err = problems.New("", text, flow.ErrSyntax, "want a prefix such as 10.0.0.0/8")
			}
			l.Include(problems.Index(list.name, i), err)
			ranges = append(ranges, p)
		}
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	outmost := ranges[:0]
	for _, p := range ranges { // one that holds another one comes first
		if n := len(outmost); n == 0 || !outmost[n-1].Overlaps(p) {
			outmost = append(outmost, p)
		}
	}
	return outmost, l.Err()
}

func checkHost(l *problems.List, path string, a netip.Addr) {
	if !flow.IsHost(a) {
		l.Add(path, a, flow.ErrAddress, "")
	}
}

// internet returns the tag Internet if it may send: to a public Service that no tag and no
// range restricts, and to an internal one only if a range says everybody.
func (s *Service) internet(ranges []netip.Prefix) []string {
	everybody := slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Bits() == 0 })
	if len(s.AllowedServiceTags) > 0 || len(ranges) > 0 && !everybody || len(ranges) == 0 && s.Internal {
		return nil
	}
	return []string{TagInternet}
}

// texts returns the addresses of a family.
func texts(addrs []netip.Addr, is6 bool) (texts []string) {
	for _, a := range addrs {
		if a.Is6() == is6 {
			texts = append(texts, a.String())
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// ofFamily returns the prefixes of a family.
func ofFamily(prefixes []netip.Prefix, is6 bool) (texts []string) {
	for _, p := range prefixes {
		if p.Addr().Is6() == is6 {
			texts = append(texts, p.String())
		}
	}
	return texts
}

func familyName(is6 bool) string {
	if is6 {
		return "IPv6"
	}
	return "IPv4"
}

// manager adds rules to those of a group.
type manager struct {
	rules []SecurityRule
	full  bool // there was a rule without a priority for it
}

// allow adds a rule with the name that AKS gives it, which is a hash of what it allows.
func (m *manager) allow(proto Protocol, is6 bool, from, to, ports []string) {
	from, ports = slices.Sorted(slices.Values(from)), slices.Sorted(slices.Values(ports))
	content := fmt.Sprintf("%v_%s_%s", proto, strings.Join(from, ","), strings.Join(ports, ","))
	m.add(SecurityRule{
		Name:   fmt.Sprintf("k8s-azure-lb_allow_%s_%x", familyName(is6), md5.Sum([]byte(content))),
		Access: Allow, Protocol: proto,
		SourceAddressPrefixes: from, SourcePortRanges: []string{everything},
		DestinationAddressPrefixes: to, DestinationPortRanges: ports,
	})
}

// add adds an inbound rule, or its destinations to the rule of its name.
func (m *manager) add(r SecurityRule) {
	if i := slices.IndexFunc(m.rules, func(old SecurityRule) bool { return old.Name == r.Name }); i >= 0 {
		to := slices.Concat(m.rules[i].DestinationAddressPrefixes, r.DestinationAddressPrefixes)
		slices.Sort(to)
		m.rules[i].DestinationAddressPrefixes = slices.Compact(to)
		return
	}
	taken := map[int]bool{}
	for _, old := range m.rules {
		taken[old.Priority] = taken[old.Priority] || old.Direction == Inbound
	}
	first, step := firstManagedPriority, 1
	if r.Access == Deny {
		first, step = lastManagedPriority-1, -1
	}
	for r.Priority = first; taken[r.Priority]; r.Priority += step {
	}
	if r.Priority < firstManagedPriority || r.Priority >= lastManagedPriority {
		m.full = true
		return
	}
	m.rules = append(m.rules, r)
}

// result returns the rules, or that they are more than there are priorities for.
func (m *manager) result() ([]SecurityRule, error) {
	if m.full {
		return nil, problems.New("SecurityRules", problems.Rawf("has %d elements", len(m.rules)), flow.ErrTooMany,
			"no priority of %d..%d is free", firstManagedPriority, lastManagedPriority-1)
	}
	return m.rules, nil
}
