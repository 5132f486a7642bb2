// Validation: every range, reference and conflict of a Config, all in one error.
// Capacity is checked by the planner, which knows who asks for how much.

package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Specification constants (Azure subscription and service limits; TCP reset and
// outbound rules documents).
const (
	maxFrontendIPConfigurations = 600
	maxFrontendAddrs            = 4096 // our choice
	maxOutboundRules            = 600
	maxRules                    = 1500 // load-balancing and inbound NAT rules
	maxRulesPerBackend          = 300
	maxPoolSize                 = 5000

	minIdleTimeout         = 4 * time.Minute
	defaultIdleTimeout     = minIdleTimeout
	maxOutboundIdleTimeout = 120 * time.Minute
	maxRuleIdleTimeout     = 30 * time.Minute
	maxRuleIdleTimeoutNew  = 100 * time.Minute
)

// The host bits of a public IP prefix: /28../31, in IPv6 /124../127 (public IP prefix
// document). Out of a range of one's own it may be larger, by our choice up to 256
// addresses.
const (
	minPrefixHostBits = 1
	maxPrefixHostBits = 4
	maxOwnHostBits    = 8
)

// CheckPublicIPPrefix returns nil if p has the size of a public IP prefix: /28../31,
// in IPv6 /124../127 (public IP prefix document), or up to /24 and /120 if it is out
// of a range of one's own, which is our bound. Otherwise it wraps flow.ErrOutOfRange, or
// ErrPrefix if p is no prefix; the message begins with p, so that a caller can put
// the path of the field before it.
func CheckPublicIPPrefix(p netip.Prefix, ownRange bool) error {
	if ownRange {
		return checkPrefixSize(p, maxOwnHostBits, "")
	}
	return checkPrefixSize(p, maxPrefixHostBits, ", larger only with OwnRanges")
}

func checkPrefixSize(p netip.Prefix, maxHostBits int, hint string) error {
	if !p.IsValid() {
		return problems.New("", p, flow.ErrPrefix, "want an IPv4 or IPv6 prefix")
	}
	bits := p.Addr().BitLen()
	if n := bits - p.Bits(); n < minPrefixHostBits || n > maxHostBits {
		return problems.New("", p, flow.ErrOutOfRange, "valid are /%d../%d%s", bits-maxHostBits, bits-minPrefixHostBits, hint)
	}
	return nil
}

// CheckAllocatedOutboundPorts returns nil if ports is a value that an outbound rule
// accepts: 0 for automatic, or 8..64,000 in steps of 8 (outbound rules document).
// Otherwise it wraps flow.ErrOutOfRange or ErrNotBlockMultiple; the message begins with
// "AllocatedOutboundPorts", so that a caller can put the rest of the path before it.
func CheckAllocatedOutboundPorts(ports int) error {
	const valid = "valid are 0 (automatic) and 8..64000 in steps of 8"
	switch {
	case ports < 0 || ports > PortsPerFrontend:
		return problems.New("AllocatedOutboundPorts", ports, flow.ErrOutOfRange, valid)
	case ports%snat.BlockSize != 0:
		return problems.New("AllocatedOutboundPorts", ports, ErrNotBlockMultiple, valid)
	}
	return nil
}

// CheckIdleTimeout returns nil if timeout is 0, for the default, or whole minutes
// from 4 to longest; longest 0 means 120 minutes, what an outbound rule accepts.
// Otherwise it wraps flow.ErrOutOfRange; the message begins with "IdleTimeout".
func CheckIdleTimeout(timeout, longest time.Duration) error {
	return checkMinutes("IdleTimeout", timeout, cmp.Or(longest, maxOutboundIdleTimeout))
}

func checkMinutes(field string, d, longest time.Duration) error {
	if d == 0 || d >= minIdleTimeout && d <= longest && d%time.Minute == 0 {
		return nil
	}
	return problems.New(field, d, flow.ErrOutOfRange, "valid are whole minutes 4..%d, or 0 for the default", longest/time.Minute)
}

// resolved is a Config whose names are looked up.
type resolved struct {
	*Config
	problems.List

	frontends, backends, pools map[string]int    // name to index
	rulePorts                  []portClaim       // of load-balancing and inbound NAT rules, sorted
	outboundFrontends          map[int]int       // frontend index to the first outbound rule that uses it
	memberOf                   []map[string]bool // names of pools by backend, after indexMembers
	former                     *inForce          // if the planner is to keep ports
	warnings                   []string          // of the planner
	endings                    [][2]*ending      // of backends, for TCP and UDP, as the planner finds them
}

// portClaim is a run of frontend ports that a rule uses, in one protocol.
type portClaim struct {
	frontend    int
	protocol    snat.Protocol // TCP or UDP
	first, last uint16
	path        string
}

// resolve validates c, except for capacity, and looks all names up. The result is
// usable only without error.
func (c *Config) resolve() (*resolved, error) {
	r := &resolved{Config: c, outboundFrontends: map[int]int{}}
	r.checkChoices()
	r.checkResources()
	checkOwners(&r.List, r.owned(""))
	r.checkOutboundRules()
	r.checkRules()
	r.checkRulePorts()
	r.checkRulesPerBackend()
	return r, r.Err()
}

func (r *resolved) checkChoices() {
	problems.Constant(&r.List, "SKU", r.SKU, numSKUs)
	problems.Constant(&r.List, "FrontendMode", r.FrontendMode, numFrontendModes)
	problems.Constant(&r.List, "Layout", r.Layout, numLayouts)
	problems.Constant(&r.List, "BasicFrontend", r.BasicFrontend, numBasicFrontends)
	r.Include("", checkMinutes("MaxOutboundIdleTimeout", r.MaxOutboundIdleTimeout, maxOutboundIdleTimeout))
	r.Include("", checkMinutes("MaxRuleIdleTimeout", r.MaxRuleIdleTimeout, maxRuleIdleTimeoutNew))
	r.Include("Timeouts", snat.Owned{}.ValidateTimeouts(r.Timeouts))
	r.Include("", snat.Owned{TCP: r.TCP, UDP: r.UDP}.Validate())
	r.Include("", r.Dataplane.Validate())
}

// checkResources builds the name indexes and checks each resource by itself.
func (r *resolved) checkResources() {
	problems.AtMost(&r.List, "FrontendIPConfigurations", len(r.FrontendIPConfigurations), "elements", maxFrontendIPConfigurations)
	r.frontends = index(r, "FrontendIPConfigurations", r.FrontendIPConfigurations, func(f FrontendIPConfiguration) string { return f.Name })
	for i, f := range r.FrontendIPConfigurations {
		path := fmt.Sprintf("FrontendIPConfigurations[%d]", i)
		switch {
		case f.PublicIPAddress.IsValid() && f.PublicIPPrefix.IsValid():
			r.Add(path+".PublicIPPrefix", f.PublicIPPrefix, flow.ErrConflict, "PublicIPAddress is set too; give one of them")
		case f.PublicIPAddress.IsValid():
			r.checkAddr(path+".PublicIPAddress", f.PublicIPAddress)
		case f.PublicIPPrefix.IsValid():
			r.checkPrefix(path+".PublicIPPrefix", f.PublicIPPrefix)
		default:
			r.Add(path+".PublicIPAddress", f.PublicIPAddress, flow.ErrMissing, "give PublicIPAddress or PublicIPPrefix")
		}
	}

	addrs := 0
	for _, f := range r.FrontendIPConfigurations {
		if p := f.PublicIPPrefix; p.IsValid() {
			addrs += 1<<min(maxOwnHostBits, p.Addr().BitLen()-p.Bits()) - 1
		}
		addrs++
	}
	problems.AtMost(&r.List, "FrontendIPConfigurations", addrs, "addresses", maxFrontendAddrs)

	r.backends = index(r, "Backends", r.Backends, func(b Backend) string { return b.Name })
	for i, b := range r.Backends {
		path := fmt.Sprintf("Backends[%d].Addrs", i)
		if len(b.Addrs) == 0 {
			r.Add(path, b.Addrs, flow.ErrMissing, "give one address, or one per family")
		}
		for j, a := range b.Addrs {
			r.checkAddr(fmt.Sprintf("%s[%d]", path, j), a)
			if j > 0 && slices.ContainsFunc(b.Addrs[:j], func(o netip.Addr) bool { return o.BitLen() == a.BitLen() }) {
				r.Add(fmt.Sprintf("%s[%d]", path, j), a, flow.ErrTooMany, "one address per family")
			}
		}
		for j, a := range b.PublicIPAddresses {
			path := fmt.Sprintf("Backends[%d].PublicIPAddresses[%d]", i, j)
			r.checkAddr(path, a)
			if slices.ContainsFunc(b.PublicIPAddresses[:j], func(o netip.Addr) bool { return o.BitLen() == a.BitLen() }) {
				r.Add(path, a, flow.ErrTooMany, "one address per family")
			} else if a.IsValid() && !b.hasFamily(a.Is6()) {
				r.Add(path, a, flow.ErrMissing, "the backend has no address of this family in Addrs")
			}
		}
		for j, p := range b.Inside {
			if path := fmt.Sprintf("Backends[%d].Inside[%d]", i, j); !p.IsValid() || p.Addr().Is4In6() {
				r.Add(path, p, flow.ErrPrefix, "want an IPv4 or IPv6 prefix, not IPv4-mapped")
			} else if p != p.Masked() {
				r.Add(path, p, flow.ErrPrefix, "has host bits set; did you mean %v?", p.Masked())
			}
		}
	}

	r.pools = index(r, "BackendAddressPools", r.BackendAddressPools, func(p BackendAddressPool) string { return p.Name })
	for i, p := range r.BackendAddressPools {
		path := fmt.Sprintf("BackendAddressPools[%d].Backends", i)
		problems.AtMost(&r.List, path, len(p.Backends), "elements", maxPoolSize)
		r.checkNames(path, p.Backends, r.backends, "Backends")
	}
}

func (r *resolved) checkAddr(path string, a netip.Addr) {
	switch {
	case !a.IsValid():
		r.Add(path, a, flow.ErrAddress, "want an address")
	case !flow.IsHost(a):
		r.Add(path, a, flow.ErrAddress, "want the address of a host, not link-local, IPv4-mapped or with a zone")
	}
}

func (r *resolved) checkPrefix(path string, p netip.Prefix) {
	if p != p.Masked() {
		r.Add(path, p, flow.ErrPrefix, "has host bits set; did you mean %v?", p.Masked())
		return
	}
	r.checkAddr(path, p.Addr())
	r.Include(path, CheckPublicIPPrefix(p, r.OwnRanges))
	if r.SKU == Basic {
		r.Add(path, p, ErrUnsupported, "a prefix serves outbound rules, which SKU Basic does not have")
	}
}

// owned is an address or prefix and whose it is.
type owned struct {
	prefix      netip.Prefix
	owner, path string
}

// owned returns the addresses and prefixes of c, which is at path.
func (c *Config) owned(path string) (all []owned) {
	add := func(p netip.Prefix, owner, field string) {
		if p.IsValid() {
			all = append(all, owned{p.Masked(), owner, problems.Field(owner, field)})
		}
	}
	for i, f := range c.FrontendIPConfigurations {
		owner := problems.Field(path, problems.Index("FrontendIPConfigurations", i))
		add(hostPrefix(f.PublicIPAddress), owner, "PublicIPAddress")
		add(f.PublicIPPrefix, owner, "PublicIPPrefix")
	}
	for i, b := range c.Backends {
		owner := problems.Field(path, problems.Index("Backends", i))
		for j, a := range b.Addrs {
			add(hostPrefix(a), owner, problems.Index("Addrs", j))
		}
		for j, a := range b.PublicIPAddresses {
			add(hostPrefix(a), owner+".PublicIPAddresses", problems.Index("", j))
		}
		for j, p := range b.Inside {
			add(p, owner, problems.Index("Inside", j))
		}
	}
	return all
}

// hostPrefix returns the prefix of one address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// checkOwners finds addresses that belong to two owners. Prefixes nest or are
// disjoint, so in sorted order an overlap shows against the enclosing prefix.
func checkOwners(l *problems.List, all []owned) {
	slices.SortStableFunc(all, func(a, b owned) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	for i, outer := 1, 0; i < len(all); i++ {
		o, c := all[outer], all[i]
		if !o.prefix.Overlaps(c.prefix) {
			outer = i
		} else if o.owner != c.owner {
			l.Add(c.path, c.prefix, flow.ErrOverlap, "with %s %v", o.path, o.prefix)
		}
	}
}

func (r *resolved) checkOutboundRules() {
	problems.AtMost(&r.List, "OutboundRules", len(r.OutboundRules), "elements", maxOutboundRules)
	index(r, "OutboundRules", r.OutboundRules, func(o OutboundRule) string { return o.Name })
	for i, o := range r.OutboundRules {
		path := fmt.Sprintf("OutboundRules[%d]", i)
		if r.SKU == Basic {
			r.Add(path, o.Name, ErrUnsupported, "SKU Basic has no outbound rules")
		}
		if len(o.FrontendIPConfigurations) == 0 {
			r.Add(path+".FrontendIPConfigurations", o.FrontendIPConfigurations, flow.ErrMissing, "give one or more")
		}
		r.checkNames(path+".FrontendIPConfigurations", o.FrontendIPConfigurations, r.frontends, "FrontendIPConfigurations")
		for _, name := range o.FrontendIPConfigurations {
			f, known := r.frontends[name]
			if _, seen := r.outboundFrontends[f]; known && !seen {
				r.outboundFrontends[f] = i
			}
		}
		r.checkName(path+".BackendAddressPool", o.BackendAddressPool, r.pools, "BackendAddressPools")
		problems.Constant(&r.List, path+".Protocol", o.Protocol, snat.UDP+1)
		r.Include(path, CheckAllocatedOutboundPorts(o.AllocatedOutboundPorts))
		r.Include(path, CheckIdleTimeout(o.IdleTimeout, r.MaxOutboundIdleTimeout))
	}
}

// checkRules checks load-balancing and inbound NAT rules and collects their ports.
func (r *resolved) checkRules() {
	problems.AtMost(&r.List, "LoadBalancingRules", len(r.LoadBalancingRules)+len(r.InboundNATRules), "elements with InboundNATRules", maxRules)
	index(r, "LoadBalancingRules", r.LoadBalancingRules, func(l LoadBalancingRule) string { return l.Name })
	index(r, "InboundNATRules", r.InboundNATRules, func(n InboundNATRule) string { return n.Name })

	for i, l := range r.LoadBalancingRules {
		path := fmt.Sprintf("LoadBalancingRules[%d]", i)
		r.checkName(path+".BackendAddressPool", l.BackendAddressPool, r.pools, "BackendAddressPools")
		r.checkPort(path+".FrontendPort", l.FrontendPort)
		r.checkRule(path, l.FrontendIPConfiguration, l.Protocol, l.FrontendPort, l.FrontendPort, l.BackendPort, l.IdleTimeout)
		if l.DisableOutboundSNAT {
			if r.SKU == Basic {
				r.Add(path+".DisableOutboundSNAT", true, ErrUnsupported, "on SKU Basic load-balancing rules always translate")
			}
			continue
		}
		if f, ok := r.frontends[l.FrontendIPConfiguration]; ok {
			if o, used := r.outboundFrontends[f]; used {
				r.Add(path+".DisableOutboundSNAT", false, flow.ErrConflict, "must be true, because OutboundRules[%d] uses frontend %q too", o, l.FrontendIPConfiguration)
			}
		}
	}

	for i, n := range r.InboundNATRules {
		path := fmt.Sprintf("InboundNATRules[%d]", i)
		first, last := n.frontendPorts()
		if n.BackendAddressPool == "" {
			r.checkName(path+".Backend", n.Backend, r.backends, "Backends")
			r.checkPort(path+".FrontendPort", n.FrontendPort)
			if n.FrontendPortRangeStart != 0 || n.FrontendPortRangeEnd != 0 {
				r.Add(path+".FrontendPortRangeStart", n.FrontendPortRangeStart, flow.ErrConflict, "a range needs BackendAddressPool")
			}
		} else {
			r.checkName(path+".BackendAddressPool", n.BackendAddressPool, r.pools, "BackendAddressPools")
			r.checkPort(path+".FrontendPortRangeStart", first)
			if last < first {
				r.Add(path+".FrontendPortRangeEnd", last, flow.ErrOutOfRange, "valid are %d..65535, not below the start", first)
			}
			if n.Backend != "" || n.FrontendPort != 0 {
				r.Add(path+".BackendAddressPool", n.BackendAddressPool, flow.ErrConflict, "excludes Backend and FrontendPort")
			}
		}
		r.checkRule(path, n.FrontendIPConfiguration, n.Protocol, first, last, n.BackendPort, n.IdleTimeout)
	}
}

// checkRule checks what both kinds of rules have, and notes their frontend ports.
func (r *resolved) checkRule(path, frontend string, protocol snat.Protocol, first, last, backendPort uint16, idle time.Duration) {
	r.checkName(path+".FrontendIPConfiguration", frontend, r.frontends, "FrontendIPConfigurations")
	problems.Constant(&r.List, path+".Protocol", protocol, snat.UDP+1)
	r.checkPort(path+".BackendPort", backendPort)
	r.Include(path, CheckIdleTimeout(idle, cmp.Or(r.MaxRuleIdleTimeout, maxRuleIdleTimeout)))
	f, ok := r.frontends[frontend]
	if !ok || first == 0 {
		return
	}
	if r.FrontendIPConfigurations[f].PublicIPPrefix.IsValid() {
		r.Add(path+".FrontendIPConfiguration", frontend, ErrUnsupported, "is a prefix, which serves outbound rules only")
	}
	for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
		if covers(protocol, p) {
			r.rulePorts = append(r.rulePorts, portClaim{f, p, first, last, path})
		}
	}
}

// checkRulePorts finds frontend ports that two rules use.
func (r *resolved) checkRulePorts() {
	slices.SortStableFunc(r.rulePorts, func(a, b portClaim) int {
		return cmp.Or(cmp.Compare(a.frontend, b.frontend), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	reported := map[[2]string]bool{} // a pair of rules for both protocols is one problem
	for i, outer := 1, 0; i < len(r.rulePorts); i++ {
		o, c := r.rulePorts[outer], r.rulePorts[i]
		if o.frontend != c.frontend || o.protocol != c.protocol || o.last < c.first {
			outer = i
			continue
		}
		if pair := [2]string{o.path, c.path}; !reported[pair] {
			reported[pair] = true
			r.Add(c.path+": frontend port", c.first, flow.ErrConflict, "%s uses it on %q too", o.path, r.FrontendIPConfigurations[c.frontend].Name)
		}
		if c.last > o.last {
			outer = i
		}
	}
}

func (r *resolved) checkRulesPerBackend() {
	perPool, perBackend := map[string]int{}, make([]int, len(r.Backends))
	for _, l := range r.LoadBalancingRules {
		perPool[l.BackendAddressPool]++
	}
	for _, n := range r.InboundNATRules {
		if n.BackendAddressPool != "" {
			perPool[n.BackendAddressPool]++
		} else if b, ok := r.backends[n.Backend]; ok {
			perBackend[b]++
		}
	}
	for _, p := range r.BackendAddressPools {
		for _, name := range p.Backends {
			if b, ok := r.backends[name]; ok {
				perBackend[b] += perPool[p.Name]
			}
		}
	}
	for i, n := range perBackend {
		problems.AtMost(&r.List, fmt.Sprintf("Backends[%d]", i), n, "rules", maxRulesPerBackend)
	}
}

func (r *resolved) checkPort(path string, port uint16) {
	if port == 0 {
		r.Add(path, port, flow.ErrOutOfRange, "valid are 1..65535")
	}
}

func (r *resolved) checkName(path, name string, known map[string]int, where string) {
	if _, ok := known[name]; name == "" {
		r.Add(path, name, flow.ErrMissing, "name one of %s", where)
	} else if !ok {
		r.Add(path, name, flow.ErrUnknownName, "not among %s", where)
	}
}

// checkNames checks a list of references, which must not repeat.
func (r *resolved) checkNames(path string, names []string, known map[string]int, where string) {
	seen := make(map[string]int, len(names))
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.checkName(at, name, known, where)
		if first, dup := seen[name]; dup {
			r.Add(at, name, flow.ErrDuplicateName, "already at [%d]", first)
		} else {
			seen[name] = i
		}
	}
}

// index maps names to positions; a name must be there and be unique.
func index[T any](r *resolved, path string, items []T, name func(T) string) map[string]int {
	at := make(map[string]int, len(items))
	for i, item := range items {
		n := name(item)
		if first, dup := at[n]; n == "" {
			r.Add(fmt.Sprintf("%s[%d].Name", path, i), n, flow.ErrMissing, "every resource needs a name")
		} else if dup {
			r.Add(fmt.Sprintf("%s[%d].Name", path, i), n, flow.ErrDuplicateName, "already %s[%d]", path, first)
		} else {
			at[n] = i
		}
	}
	return at
}

// covers reports whether a rule for protocol rule applies to p, TCP or UDP.
func covers(rule, p snat.Protocol) bool { return rule == snat.All || rule == p }
