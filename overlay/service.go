// Services: what they are, their defaults, and what is wrong with them.

package overlay

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/overlay/internal/claims"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/portmap"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// ServiceType says by which ways a Service can be reached.
type ServiceType uint8

// The types: each but the last has the frontends of those before it.
const (
	ClusterIP    ServiceType = iota // from nodes and pods
	NodePort                        // also by a port of every node
	LoadBalancer                    // also by addresses of the cluster's load balancer
	ExternalName                    // by a name of the DNS only
	numServiceTypes
)

var serviceTypeNames = [...]string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}

var _ = [1]struct{}{}[len(serviceTypeNames)-int(numServiceTypes)] // one name per type

// String returns the name of the type in Kubernetes.
func (t ServiceType) String() string { return enum.Name(t, serviceTypeNames[:]) }

// TrafficPolicy says which endpoints a node may choose from.
type TrafficPolicy uint8

// The policies.
const (
	PolicyCluster TrafficPolicy = iota // all of them
	PolicyLocal                        // those on the node itself
	numTrafficPolicies
)

var trafficPolicyNames = [...]string{"Cluster", "Local"}

var _ = [1]struct{}{}[len(trafficPolicyNames)-int(numTrafficPolicies)] // one name per policy

// String returns the name of the policy in Kubernetes.
func (p TrafficPolicy) String() string { return enum.Name(p, trafficPolicyNames[:]) }

// Service describes a Kubernetes Service, with the names of its API. The zero value of
// every field but Name and Ports is a documented default.
type Service struct {
	// Name is unique in the cluster, as "namespace/name" if there are namespaces.
	Name string

	Type ServiceType // zero is ClusterIP

	// IPFamilies is "ipv4", "ipv6" or "ipv4,ipv6", out of those of the cluster; "" means
	// the first family of the cluster (ipFamilyPolicy SingleStack).
	IPFamilies string

	// Headless is clusterIP None, with type ClusterIP: clients get the addresses of the endpoints from
	// the cluster's DNS, which is [Cluster.Resolve] here, and packets meet no frontend.
	Headless bool

	// ExternalName is the name that clients get instead of addresses, with the type of that name.
	ExternalName string

	// ClusterIPs are one address per family, in the service CIDR, but not its first one. None
	// means the next free ones, ascending from the middle of the range on, then from its beginning (our choice).
	ClusterIPs []netip.Addr

	// Ports are at least one and at most 300 (rules of one backend). Without frontends there
	// may be none.
	Ports []ServicePort

	// ExternalTrafficPolicy is for what comes from outside of the cluster: with PolicyLocal
	// it keeps its source, and stays on the node that the load balancer has chosen.
	// InternalTrafficPolicy is for what pods and nodes send to the cluster IP.
	ExternalTrafficPolicy, InternalTrafficPolicy TrafficPolicy

	// SessionAffinity lets a client keep its endpoint (ClientIP), for as long as it begins
	// a connection at least every AffinityTimeout: 1 s to a day, 0 means 3 hours. The
	// rules of the load balancer have the distribution SourceIP then.
	SessionAffinity bool
	AffinityTimeout time.Duration // see SessionAffinity

	// HealthCheckNodePort is where nodes answer the load balancer's probes, with type
	// LoadBalancer and PolicyLocal: 30000..32767, 0 means the next free one from 30086 on.
	HealthCheckNodePort uint16

	// LoadBalancerIP is the address at the load balancer, of one of IPFamilies, with type
	// LoadBalancer; the zero Addr leaves it to annotations, which precede it, or to Azure.
	LoadBalancerIP netip.Addr

	// LoadBalancerSourceRanges are who may use the addresses of the load balancer; none of
	// a family means all of it. Clients inside of the cluster are no exception.
	LoadBalancerSourceRanges []netip.Prefix

	// ExternalIPs must be empty: AKS refuses them (Azure Policy, CVE-2020-8554), and
	// nothing here routes them to a node.
	ExternalIPs []netip.Addr

	// Annotations are those of Azure with the prefix service.beta.kubernetes.io/. One that
	// is not modelled, or not known, is an error; others are kept.
	Annotations map[string]string
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Name     string        // unique; may be empty if there is only one
	Protocol snat.Protocol // TCP or UDP; zero means TCP
	Port     uint16        // of cluster IP and load balancer, 1..65535

	// TargetPort is that of the endpoints; 0 means Port.
	TargetPort uint16

	// NodePort is one of every node, 30000..32767, with the types NodePort and
	// LoadBalancer; 0 means the next free one.
	NodePort uint16

	// AppProtocol "http" or "https" makes the load balancer's probe ask by it, with path "/".
	AppProtocol string
}

// Endpoint is who serves a Service: a pod by name, a process of a node (hostNetwork), or a host
// outside of the cluster, of a Service without selector.
type Endpoint struct {
	Pod  string     // its name
	Node string     // if Pod is empty
	Addr netip.Addr // if both are: neither a node's address nor out of the CIDRs of pods and Services

	// Terminating marks one that has been told to end and still serves. It gets new
	// connections only where no other endpoint is: in the cluster, or with a policy Local
	// on its node (KEP 1669). It counts for no health check.
	Terminating bool
}

// who returns the endpoint without its state.
func (e Endpoint) who() Endpoint {
	e.Terminating = false
	return e
}

// Bounds of Services.
const (
	firstNodePort, lastNodePort = claims.FirstNodePort, claims.LastNodePort
	defaultAffinity             = 10_800 * time.Second
	maxAffinity                 = 86_400 * time.Second
	maxServicePorts             = 300
	maxServiceIdleMinutes       = 30 // AKS document
)

// families returns the families of s, those of the cluster being at most 2.
func (s *Service) families() []family {
	switch s.IPFamilies {
	case "ipv6":
		return []family{ipv6}
	case "ipv4,ipv6":
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

// withDefaults returns a deep copy with the defaults that do not depend on other Services.
func (s Service) withDefaults() Service {
	setDefault(&s.IPFamilies, "ipv4")
	if s.SessionAffinity {
		setDefault(&s.AffinityTimeout, defaultAffinity)
	}
	s = s.clone()
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Protocol == snat.All {
			p.Protocol = snat.TCP
		}
		setDefault(&p.TargetPort, p.Port)
	}
	return s
}

// validate reports what is wrong with s, which has its defaults, by itself and in a
// cluster, and reads its annotations.
func (s *Service) validate(c *ClusterConfig, l *problems.List) annotations.Settings {
	if s.Name == "" {
		l.Add("Name", s.Name, flow.ErrMissing, "a Service needs a name")
	}
	if strings.HasPrefix(s.Name, portmap.Prefix) {
		l.Add("Name", s.Name, ErrReserved, "names that begin with %q are those of host ports", portmap.Prefix)
	}
	problems.Constant(l, "Type", s.Type, numServiceTypes)
	problems.Constant(l, "ExternalTrafficPolicy", s.ExternalTrafficPolicy, numTrafficPolicies)
	problems.Constant(l, "InternalTrafficPolicy", s.InternalTrafficPolicy, numTrafficPolicies)
	switch s.IPFamilies {
	case "ipv4":
	case "ipv6", "ipv4,ipv6":
		if len(c.families()) < int(numFamilies) {
			l.Add("IPFamilies", s.IPFamilies, ErrFamily, "the cluster's IPFamilies is %q", c.IPFamilies)
		}
	default:
		l.Add("IPFamilies", s.IPFamilies, flow.ErrOutOfRange, "ipv4, ipv6 or ipv4,ipv6")
	}
	for i, a := range s.ClusterIPs {
		at := problems.Index("ClusterIPs", i)
		f := familyOf(a)
		switch {
		case !a.IsValid():
			l.Add(at, a, flow.ErrAddress, "")
		case i >= len(s.families()) || f != s.families()[i]:
			l.Add(at, a, ErrFamily, "IPFamilies is %q", s.IPFamilies)
		case int(f) >= len(c.ServiceCIDRs) || !c.ServiceCIDRs[f].Contains(a):
			l.Add(at, a, flow.ErrOutOfRange, "must be in ServiceCIDRs %v", c.ServiceCIDRs)
		case a == c.ServiceCIDRs[f].Masked().Addr():
			l.Add(at, a, ErrReserved, "the first address of the service CIDR")
		}
	}
	s.validateNames(l)
	if n := len(s.ClusterIPs); n != 0 && n != len(s.families()) {
		l.Add("ClusterIPs", s.ClusterIPs, flow.ErrMissing, "one for each of IPFamilies %q, or none", s.IPFamilies)
	}
	s.validatePorts(l)
	s.validateOutside(l)
	settings, err := s.read()
	l.Include("", err)
	s.validateBalancers(c, &settings, l)
	if len(s.LoadBalancerSourceRanges) > 0 && len(settings.AllowedIPRanges) > 0 {
		l.Add(annotations.Path("azure-allowed-ip-ranges"), strings.Join(settings.AllowedIPRanges, ","), flow.ErrConflict,
			"LoadBalancerSourceRanges are set, too")
	}
	shared := c.LoadBalancerProfile.ClusterServiceLoadBalancerHealthProbeMode == HealthProbeShared && s.ExternalTrafficPolicy == PolicyCluster
	servicelb.CheckProbes(s.balancedPorts(), &settings, shared, l)
	return settings
}

// read reads the annotations of s.
func (s *Service) read() (annotations.Settings, error) {
	settings, err := annotations.Parse(s.Annotations, maxServiceIdleMinutes)
	if a := s.LoadBalancerIP; a.IsValid() && !settings.Addrs[familyOf(a)].IsValid() {
		settings.Addrs[familyOf(a)] = a
	}
	return settings, err
}

// validateBalancers reports what annotations ask for that the cluster's load balancers do not have.
func (s *Service) validateBalancers(c *ClusterConfig, settings *annotations.Settings, l *problems.List) {
	if settings.HAPorts && (c.LoadBalancerSKU != lb.Standard || s.IPFamilies != "ipv4") {
		l.Add(annotations.Path("azure-load-balancer-enable-high-availability-ports"), true, lb.ErrUnsupported,
			"needs LoadBalancerSKU %v, and floating IP, which internal load balancers have for IPv4 only", lb.Standard)
	}
	mode := settings.Mode
	if mode == "" || mode == annotations.AutoMode && c.LoadBalancerSKU == lb.Basic {
		return
	}
	switch pool := c.NodePools[0].Name; {
	case c.LoadBalancerSKU != lb.Basic:
		l.Add(annotations.Path("azure-load-balancer-mode"), mode, lb.ErrUnsupported, "chooses among load balancers of SKU %v, LoadBalancerSKU is %v", lb.Basic, c.LoadBalancerSKU)
	case mode != fleet.ScaleSetName(pool):
		l.Add(annotations.Path("azure-load-balancer-mode"), mode, flow.ErrUnknownName, "the cluster's only scale set is %s", fleet.ScaleSetName(pool))
	}
}

// validatePorts reports what is wrong with the ports.
func (s *Service) validatePorts(l *problems.List) {
	if len(s.Ports) == 0 && s.hasFrontends() {
		l.Add("Ports", problems.None, flow.ErrMissing, "a Service needs a port")
	}
	problems.AtMost(l, "Ports", len(s.Ports), "ports", maxServicePorts)
	for i, p := range s.Ports {
		at := problems.Index("Ports", i)
		if p.Protocol != snat.TCP && p.Protocol != snat.UDP {
			l.Add(at+".Protocol", p.Protocol, lb.ErrUnsupported, "TCP or UDP; SCTP is not modelled, and Azure's load balancer has none")
		}
		problems.Between(l, at+".Port", p.Port, 1, 65535)
		if p.NodePort != 0 {
			problems.Between(l, at+".NodePort", p.NodePort, firstNodePort, lastNodePort)
			if !s.hasNodePorts() {
				l.Add(at+".NodePort", p.NodePort, flow.ErrConflict, "Type is %v", s.Type)
			}
		}
		if p.AppProtocol != "" && p.Protocol != snat.TCP {
			l.Add(at+".AppProtocol", p.AppProtocol, flow.ErrConflict, "Protocol is %v", p.Protocol)
		}
	}
}

// validateOutside reports what is wrong with how the Service is reached from outside, and
// with its affinity.
func (s *Service) validateOutside(l *problems.List) {
	if len(s.ExternalIPs) > 0 {
		l.Add("ExternalIPs", s.ExternalIPs, lb.ErrUnsupported, "AKS refuses external IPs; use Type LoadBalancer")
	}
	switch {
	case !s.SessionAffinity && s.AffinityTimeout != 0:
		l.Add("AffinityTimeout", s.AffinityTimeout, flow.ErrConflict, "SessionAffinity is false")
	case s.SessionAffinity:
		if t := s.AffinityTimeout; t < time.Second || t > maxAffinity || t%time.Second != 0 {
			l.Add("AffinityTimeout", t, flow.ErrOutOfRange, "whole seconds, 1 s to 24h0m0s")
		}
	}
	if s.ExternalTrafficPolicy == PolicyLocal && !s.hasNodePorts() {
		l.Add("ExternalTrafficPolicy", s.ExternalTrafficPolicy, flow.ErrConflict, "Type is %v", s.Type)
	}
	if p := s.HealthCheckNodePort; p != 0 {
		problems.Between(l, "HealthCheckNodePort", p, firstNodePort, lastNodePort)
		if s.Type != LoadBalancer || s.ExternalTrafficPolicy != PolicyLocal {
			l.Add("HealthCheckNodePort", p, flow.ErrConflict, "only with Type LoadBalancer and ExternalTrafficPolicy Local")
		}
	}
	if a := s.LoadBalancerIP; a.IsValid() {
		switch {
		case s.Type != LoadBalancer:
			l.Add("LoadBalancerIP", a, flow.ErrConflict, "Type is %v", s.Type)
		case !slices.Contains(s.families(), familyOf(a)):
			l.Add("LoadBalancerIP", a, ErrFamily, "IPFamilies is %q", s.IPFamilies)
		}
	}
	if len(s.LoadBalancerSourceRanges) > 0 && s.Type != LoadBalancer {
		l.Add("LoadBalancerSourceRanges", s.LoadBalancerSourceRanges, flow.ErrConflict, "Type is %v", s.Type)
	}
	for i, p := range s.LoadBalancerSourceRanges {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			l.Add(problems.Index("LoadBalancerSourceRanges", i), p, flow.ErrPrefix, "")
		}
	}
}
