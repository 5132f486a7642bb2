// Package annotations reads what Services on Azure say by their annotations: those of
// cloud-provider-azure with the prefix service.beta.kubernetes.io/. Every one that it knows is
// either a field of [Settings] or refused with the reason; one that it does not know is an
// error, too, so that none is without effect unnoticed. Annotations of other prefixes are
// not its business.
//
// It refuses to know Services, load balancers and who has which address. Everything here
// is a pure function.
//
// Sources: "Use a public standard load balancer in AKS", "Use an internal load balancer with
// AKS", and the document "LoadBalancer annotations" of cloud-provider-azure.
package annotations

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Prefix is that of all annotations that Parse reads.
const Prefix = "service.beta.kubernetes.io/"

// Path returns where an annotation is, for errors; name is without the prefix.
func Path(name string) string { return "Annotations[" + Prefix + name + "]" }

// ErrNotModelled marks an annotation that asks for what is not modelled.
var ErrNotModelled = errors.New("not modelled")

// Settings are what annotations ask for. The zero value is what a Service without any has.
type Settings struct {
	Addrs           [2]netip.Addr // of the load balancer by family; the zero Addr is the next free one
	AdditionalAddrs []netip.Addr  // further frontends; public ones only

	// Names of public IPs and ids of their prefixes, that the address is to be or to come from.
	// The second ones are IPv6's of a Service with two families; a Service with one has the
	// first ones, whatever the family.
	PublicIPNames, PublicIPPrefixIDs [2]string

	Internal       bool   // the load balancer is an internal one
	InternalSubnet string // where it has its address; "" is the default

	IdleTimeout       time.Duration // of TCP; 0 is that of the load balancer
	DisableTCPReset   bool
	DisableFloatingIP bool
	HAPorts           bool // one rule for all ports; internal load balancers only

	// Mode says which of several load balancers of SKU Basic; "" is the default. It is a name of
	// a scale set, several with commas between them, or AutoMode.
	Mode string

	// Who may send, by the cluster's network security group.
	AllowedServiceTags        []string
	AllowedIPRanges           []string // prefixes; several spellings of one are one
	DenyAllExceptSourceRanges bool

	Probe Probe            // of all ports
	Ports map[uint16]*Port // by port of the Service

	// Labels are what changes no packet, by annotation: the names of public IPs in DNS,
	// their tags, and where they live.
	Labels map[string]string
}

// Probe is what annotations say of a health probe; zero fields say nothing.
type Probe struct {
	Protocol       string // "tcp", "http" or "https"
	Port           uint16
	Interval       time.Duration
	NumberOfProbes int
	RequestPath    string
}

// Port is what annotations say of one port.
type Port struct {
	NoRule, NoProbe bool
	Probe           Probe
}

// Of returns what is said of the probe of a port: its own annotations win.
func (s *Settings) Of(port uint16) (p Probe, noRule, noProbe bool) {
	p = s.Probe
	own := s.Ports[port]
	if own == nil {
		return p, false, false
	}
	o := own.Probe
	if o.Protocol != "" {
		p.Protocol = o.Protocol
	}
	if o.Port != 0 {
		p.Port = o.Port
	}
	if o.Interval != 0 {
		p.Interval = o.Interval
	}
	if o.NumberOfProbes != 0 {
		p.NumberOfProbes = o.NumberOfProbes
	}
	if o.RequestPath != "" {
		p.RequestPath = o.RequestPath
	}
	return p, own.NoRule, own.NoRule || own.NoProbe
}

// notModelled says why an annotation, which there is on Azure, is refused; "" of others.
func notModelled(name string) string {
	switch {
	case strings.HasPrefix(name, "azure-pls-"):
		return "there are no Private Link Services here"
	case name == "azure-load-balancer-configurations":
		return "a cluster has one load balancer here"
	}
	return ""
}

// labels are the annotations that change no packet.
var labels = []string{"azure-dns-label-name", "azure-pip-ip-tags", "azure-pip-tags", "azure-load-balancer-resource-group"}

// AutoMode is the Mode that leaves the choice to Azure.
const AutoMode = "__auto__"

// Parse reads annotations. maxIdleMinutes is the longest idle timeout that is accepted: 30 by
// the AKS document, 100 by that of cloud-provider-azure. The error joins every problem.
func Parse(all map[string]string, maxIdleMinutes int) (Settings, error) {
	r := reader{maxIdle: maxIdleMinutes}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if name, ok := strings.CutPrefix(key, Prefix); ok {
			r.path, r.value = Path(name), all[key]
			r.read(name)
		}
	}
	r.together()
	return r.s, r.Err()
}

// together checks what annotations mean to one another.
func (r *reader) together() {
	if r.s.InternalSubnet != "" && !r.s.Internal {
		r.Add(Path("azure-load-balancer-internal-subnet"), r.s.InternalSubnet, problems.ErrConflict, "only with azure-load-balancer-internal")
	}
	if r.s.AdditionalAddrs != nil && r.s.Internal {
		r.Add(Path("azure-additional-public-ips"), r.s.AdditionalAddrs, problems.ErrConflict, "not with azure-load-balancer-internal")
	}
	for f, suffix := range []string{"", "-ipv6"} {
		name, id := r.s.PublicIPNames[f], r.s.PublicIPPrefixIDs[f]
		nameKey, idKey := Path("azure-pip-name"+suffix), Path("azure-pip-prefix-id"+suffix)
		if name != "" && id != "" {
			r.Add(idKey, id, problems.ErrConflict, "not with azure-pip-name%s, which is an address already", suffix)
		}
		for _, named := range [][2]string{{nameKey, name}, {idKey, id}} {
			if named[1] != "" && r.s.Internal {
				r.Add(named[0], named[1], problems.ErrConflict, "is public; not with azure-load-balancer-internal")
			}
		}
	}
	if r.s.HAPorts && (!r.s.Internal || r.s.DisableFloatingIP) {
		r.Add(Path("azure-load-balancer-enable-high-availability-ports"), true, problems.ErrConflict, "only with azure-load-balancer-internal, and with floating IP")
	}
}

// reader reads one annotation after the other.
type reader struct {
	problems.List
	s           Settings
	maxIdle     int
	path, value string // of the present one
}

// bad notes that the present annotation is wrong.
func (r *reader) bad(kind error, want string, args ...any) {
	r.Add(r.path, r.value, kind, want, args...)
}

// read reads the present annotation.
func (r *reader) read(name string) {
	if why := notModelled(name); why != "" {
		r.bad(ErrNotModelled, "%s", why)
		return
	}
	if slices.Contains(labels, name) {
		if r.s.Labels == nil {
			r.s.Labels = make(map[string]string)
		}
		r.s.Labels[Prefix+name] = r.value
		return
	}
	switch name {
	case "azure-load-balancer-internal":
		r.s.Internal = r.boolean()
	case "azure-load-balancer-internal-subnet":
		r.s.InternalSubnet = r.name()
	case "azure-load-balancer-ipv4":
		r.s.Addrs[0] = r.addr(false)
	case "azure-load-balancer-ipv6":
		r.s.Addrs[1] = r.addr(true)
	case "azure-pip-name":
		r.s.PublicIPNames[0] = r.name()
	case "azure-pip-name-ipv6":
		r.s.PublicIPNames[1] = r.name()
	case "azure-pip-prefix-id":
		r.s.PublicIPPrefixIDs[0] = r.name()
	case "azure-pip-prefix-id-ipv6":
		r.s.PublicIPPrefixIDs[1] = r.name()
	case "azure-additional-public-ips":
		r.additional()
	case "azure-load-balancer-enable-high-availability-ports":
		r.s.HAPorts = r.boolean()
	case "azure-load-balancer-mode":
		if r.value != "default" {
			r.s.Mode = r.name()
		}
	case "azure-load-balancer-tcp-idle-timeout":
		if n := r.number(4, r.maxIdle); n > 0 {
			r.s.IdleTimeout = time.Duration(n) * time.Minute
		}
	case "azure-load-balancer-disable-tcp-reset":
		r.s.DisableTCPReset = r.boolean()
	case "azure-disable-load-balancer-floating-ip":
		r.s.DisableFloatingIP = r.boolean()
	case "azure-allowed-service-tags":
		r.s.AllowedServiceTags = r.list()
	case "azure-allowed-ip-ranges":
		r.ranges()
	case "azure-deny-all-except-load-balancer-source-ranges":
		r.s.DenyAllExceptSourceRanges = r.boolean()
	case "azure-shared-securityrule":
		r.boolean() // rules are shared whatever it says, as they are since Kubernetes 1.27
	default:
		if rest, ok := strings.CutPrefix(name, "azure-load-balancer-health-probe-"); ok && rest != "port" {
			r.probe(&r.s.Probe, rest)
		} else if rest, ok := strings.CutPrefix(name, "port_"); ok {
			r.port(rest)
		} else {
			r.bad(problems.ErrUnknownName, "is no annotation of a Service on Azure")
		}
	}
}

// port reads an annotation of one port: "80_no_lb_rule" or "80_health-probe_interval".
func (r *reader) port(rest string) {
	digits, what, _ := strings.Cut(rest, "_")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		r.bad(problems.ErrSyntax, "port_ must be followed by a port, 1..65535")
		return
	}
	if r.s.Ports == nil {
		r.s.Ports = make(map[uint16]*Port)
	}
	p := r.s.Ports[uint16(n)]
	if p == nil {
		p = new(Port)
		r.s.Ports[uint16(n)] = p
	}
	field, ok := strings.CutPrefix(what, "health-probe_")
	switch {
	case what == "no_lb_rule":
		p.NoRule = r.boolean()
	case what == "no_probe_rule":
		p.NoProbe = r.boolean()
	case ok:
		r.probe(&p.Probe, field)
	default:
		r.bad(problems.ErrUnknownName, "is no annotation of a port")
	}
}

// probe reads a field of a probe.
func (r *reader) probe(p *Probe, field string) {
	switch field {
	case "protocol":
		if p.Protocol = strings.ToLower(r.value); !slices.Contains([]string{"tcp", "http", "https"}, p.Protocol) {
			r.bad(problems.ErrOutOfRange, "tcp, http or https")
		}
	case "port":
		p.Port = uint16(r.number(1, 65535))
	case "interval":
		p.Interval = time.Duration(r.number(5, 1<<31-1)) * time.Second
	case "num-of-probe":
		p.NumberOfProbes = r.number(2, 1<<31-1)
	case "request-path":
		if p.RequestPath = r.value; !strings.HasPrefix(r.value, "/") {
			r.bad(problems.ErrSyntax, "must begin with /")
		}
	default:
		r.bad(problems.ErrUnknownName, "is no annotation of a probe")
	}
}

// name reads a name, which is not empty.
func (r *reader) name() string {
	if r.value == "" {
		r.bad(problems.ErrMissing, "must be a name")
	}
	return r.value
}

// boolean reads "true" or "false".
func (r *reader) boolean() bool {
	if r.value != "true" && r.value != "false" {
		r.bad(problems.ErrSyntax, "true or false")
	}
	return r.value == "true"
}

// number reads a number, or returns 0.
func (r *reader) number(least, most int) int {
	n, err := strconv.Atoi(r.value)
	switch {
	case err != nil:
		r.bad(problems.ErrSyntax, "must be a number, %d..%d", least, most)
		return 0
	case n < least || n > most:
		r.bad(problems.ErrOutOfRange, "%d..%d", least, most)
		return 0
	}
	return n
}

// addr reads an address of a family, or returns the zero Addr.
func (r *reader) addr(is6 bool) netip.Addr {
	a, err := netip.ParseAddr(r.value)
	if err != nil || a.Is6() != is6 || a.Is4In6() || a.Zone() != "" {
		r.bad(problems.ErrAddress, "must be an address of the family")
		return netip.Addr{}
	}
	return a
}

// list reads elements with commas between them, none of which is empty.
func (r *reader) list() (all []string) {
	for _, text := range strings.Split(r.value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			r.bad(problems.ErrSyntax, "must be elements with commas between them, none of which is empty")
			return nil
		}
		all = append(all, text)
	}
	return all
}

// ranges reads the prefixes that may send.
func (r *reader) ranges() {
	for _, text := range r.list() {
		if p, err := netip.ParsePrefix(text); err != nil || p != p.Masked() || p.Addr().Is4In6() {
			r.bad(problems.ErrSyntax, "must be prefixes such as 10.0.0.0/8, and %q is none", text)
			return
		}
		r.s.AllowedIPRanges = append(r.s.AllowedIPRanges, text)
	}
}

// additional reads a list of addresses.
func (r *reader) additional() {
	for _, text := range strings.Split(r.value, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || a.Is4In6() || a.Zone() != "" {
			r.bad(problems.ErrAddress, "must be addresses with commas between them, and %q is none", text)
			return
		}
		r.s.AdditionalAddrs = append(r.s.AdditionalAddrs, a)
	}
}
