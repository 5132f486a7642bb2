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
// of a range of one's own, which is our bound. Otherwise it wraps ErrOutOfRange, or
// ErrInvalid if p is no prefix; the message begins with p, so that a caller can put
// the path of the field before it.
func CheckPublicIPPrefix(p netip.Prefix, ownRange bool) error {
	if ownRange {
		return checkPrefixSize(p, maxOwnHostBits, "")
	}
	return checkPrefixSize(p, maxPrefixHostBits, ", larger only with OwnRanges")
}

func checkPrefixSize(p netip.Prefix, maxHostBits int, hint string) error {
	if !p.IsValid() {
		return fmt.Errorf("%v: %w: want an IPv4 or IPv6 prefix", p, ErrInvalid)
	}
	bits := p.Addr().BitLen()
	if n := bits - p.Bits(); n < minPrefixHostBits || n > maxHostBits {
		return fmt.Errorf("%v: %w: valid are /%d../%d%s", p, ErrOutOfRange, bits-maxHostBits, bits-minPrefixHostBits, hint)
	}
	return nil
}

// CheckAllocatedOutboundPorts returns nil if ports is a value that an outbound rule
// accepts: 0 for automatic, or 8..64,000 in steps of 8 (outbound rules document).
// Otherwise it wraps ErrOutOfRange or ErrNotBlockMultiple; the message begins with
// "AllocatedOutboundPorts", so that a caller can put the rest of the path before it.
func CheckAllocatedOutboundPorts(ports int) error {
	const valid = "valid are 0 (automatic) and 8..64000 in steps of 8"
	switch {
	case ports < 0 || ports > PortsPerFrontend:
		return fieldError(ErrOutOfRange, "AllocatedOutboundPorts", ports, valid)
	case ports%snat.BlockSize != 0:
		return fieldError(ErrNotBlockMultiple, "AllocatedOutboundPorts", ports, valid)
	}
	return nil
}

// CheckIdleTimeout returns nil if timeout is 0, for the default, or whole minutes
// from 4 to longest; longest 0 means 120 minutes, what an outbound rule accepts.
// Otherwise it wraps ErrOutOfRange; the message begins with "IdleTimeout".
func CheckIdleTimeout(timeout, longest time.Duration) error {
	return checkMinutes("IdleTimeout", timeout, cmp.Or(longest, maxOutboundIdleTimeout))
}

func checkMinutes(field string, d, longest time.Duration) error {
	if d == 0 || d >= minIdleTimeout && d <= longest && d%time.Minute == 0 {
		return nil
	}
	return fieldError(ErrOutOfRange, field, d, fmt.Sprintf("valid are whole minutes 4..%d, or 0 for the default", longest/time.Minute))
}

// resolved is a Config whose names are looked up.
type resolved struct {
	*Config
	problems

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
	r.checkAddresses()
	r.checkOutboundRules()
	r.checkRules()
	r.checkRulePorts()
	r.checkRulesPerBackend()
	return r, r.join()
}

func (r *resolved) checkChoices() {
	r.checkEnum("SKU", r.SKU < numSKUs, r.SKU)
	r.checkEnum("FrontendMode", r.FrontendMode < numFrontendModes, r.FrontendMode)
	r.checkEnum("Layout", r.Layout < numLayouts, r.Layout)
	r.checkEnum("BasicFrontend", r.BasicFrontend < numBasicFrontends, r.BasicFrontend)
	r.check("", checkMinutes("MaxOutboundIdleTimeout", r.MaxOutboundIdleTimeout, maxOutboundIdleTimeout))
	r.check("", checkMinutes("MaxRuleIdleTimeout", r.MaxRuleIdleTimeout, maxRuleIdleTimeoutNew))
}

// checkResources builds the name indexes and checks each resource by itself.
func (r *resolved) checkResources() {
	r.checkCount("FrontendIPConfigurations", len(r.FrontendIPConfigurations), maxFrontendIPConfigurations)
	r.frontends = index(r, "FrontendIPConfigurations", r.FrontendIPConfigurations, func(f FrontendIPConfiguration) string { return f.Name })
	for i, f := range r.FrontendIPConfigurations {
		path := fmt.Sprintf("FrontendIPConfigurations[%d]", i)
		switch {
		case f.PublicIPAddress.IsValid() && f.PublicIPPrefix.IsValid():
			r.add(ErrConflict, path+".PublicIPPrefix", f.PublicIPPrefix, "PublicIPAddress is set too; give one of them")
		case f.PublicIPAddress.IsValid():
			r.checkAddr(path+".PublicIPAddress", f.PublicIPAddress)
		case f.PublicIPPrefix.IsValid():
			r.checkPrefix(path+".PublicIPPrefix", f.PublicIPPrefix)
		default:
			r.add(ErrMissing, path+".PublicIPAddress", f.PublicIPAddress, "give PublicIPAddress or PublicIPPrefix")
		}
	}

	addrs := 0
	for _, f := range r.FrontendIPConfigurations {
		if p := f.PublicIPPrefix; p.IsValid() {
			addrs += 1<<min(maxOwnHostBits, p.Addr().BitLen()-p.Bits()) - 1
		}
		addrs++
	}
	r.checkCount("addresses of FrontendIPConfigurations", addrs, maxFrontendAddrs)

	r.backends = index(r, "Backends", r.Backends, func(b Backend) string { return b.Name })
	for i, b := range r.Backends {
		path := fmt.Sprintf("Backends[%d].Addrs", i)
		if len(b.Addrs) == 0 {
			r.add(ErrMissing, path, b.Addrs, "give one address, or one per family")
		}
		for j, a := range b.Addrs {
			r.checkAddr(fmt.Sprintf("%s[%d]", path, j), a)
			if j > 0 && slices.ContainsFunc(b.Addrs[:j], func(o netip.Addr) bool { return o.BitLen() == a.BitLen() }) {
				r.add(ErrConflict, fmt.Sprintf("%s[%d]", path, j), a, "a second address of the same family")
			}
		}
		for j, a := range b.PublicIPAddresses {
			path := fmt.Sprintf("Backends[%d].PublicIPAddresses[%d]", i, j)
			r.checkAddr(path, a)
			if slices.ContainsFunc(b.PublicIPAddresses[:j], func(o netip.Addr) bool { return o.BitLen() == a.BitLen() }) {
				r.add(ErrConflict, path, a, "a second address of the same family")
			} else if a.IsValid() && !b.hasFamily(a.Is6()) {
				r.add(ErrMissing, path, a, "the backend has no address of this family in Addrs")
			}
		}
		for j, p := range b.Inside {
			if path := fmt.Sprintf("Backends[%d].Inside[%d]", i, j); !p.IsValid() || p.Addr().Is4In6() {
				r.add(ErrInvalid, path, p, "want an IPv4 or IPv6 prefix, not IPv4-mapped")
			} else if p != p.Masked() {
				r.add(ErrInvalid, path, p, fmt.Sprintf("has host bits set; did you mean %v?", p.Masked()))
			}
		}
	}

	r.pools = index(r, "BackendAddressPools", r.BackendAddressPools, func(p BackendAddressPool) string { return p.Name })
	for i, p := range r.BackendAddressPools {
		path := fmt.Sprintf("BackendAddressPools[%d].Backends", i)
		r.checkCount(path, len(p.Backends), maxPoolSize)
		r.checkNames(path, p.Backends, r.backends, "Backends")
	}
}

func (r *resolved) checkAddr(path string, a netip.Addr) {
	switch {
	case !a.IsValid():
		r.add(ErrInvalid, path, a, "not an address")
	case !flow.IsHost(a):
		r.add(ErrInvalid, path, a, "want the address of a host, not link-local, IPv4-mapped or with a zone")
	}
}

func (r *resolved) checkPrefix(path string, p netip.Prefix) {
	if p != p.Masked() {
		r.add(ErrInvalid, path, p, fmt.Sprintf("has host bits set; did you mean %v?", p.Masked()))
		return
	}
	r.checkAddr(path, p.Addr())
	if err := CheckPublicIPPrefix(p, r.OwnRanges); err != nil {
		r.check("", fmt.Errorf("%s %w", path, err))
	}
	if r.SKU == Basic {
		r.add(ErrUnsupported, path, p, "a prefix serves outbound rules, which SKU Basic does not have")
	}
}

// checkAddresses finds addresses that belong to two owners. Prefixes nest or are
// disjoint, so in sorted order an overlap shows against the enclosing prefix.
func (r *resolved) checkAddresses() {
	type claim struct {
		prefix      netip.Prefix
		owner, path string
	}
	var claims []claim
	add := func(p netip.Prefix, owner, format string, args ...any) {
		if p.IsValid() {
			claims = append(claims, claim{p.Masked(), owner, owner + fmt.Sprintf(format, args...)})
		}
	}
	addrPrefix := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	for i, f := range r.FrontendIPConfigurations {
		owner := fmt.Sprintf("FrontendIPConfigurations[%d]", i)
		add(addrPrefix(f.PublicIPAddress), owner, ".PublicIPAddress")
		add(f.PublicIPPrefix, owner, ".PublicIPPrefix")
	}
	for i, b := range r.Backends {
		owner := fmt.Sprintf("Backends[%d]", i)
		for j, a := range b.Addrs {
			add(addrPrefix(a), owner, ".Addrs[%d]", j)
		}
		for j, a := range b.PublicIPAddresses {
			add(addrPrefix(a), owner+".PublicIPAddresses", "[%d]", j)
		}
		for j, p := range b.Inside {
			add(p, owner, ".Inside[%d]", j)
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	for i, outer := 1, 0; i < len(claims); i++ {
		o, c := claims[outer], claims[i]
		if !o.prefix.Overlaps(c.prefix) {
			outer = i
		} else if o.owner != c.owner {
			r.add(ErrConflict, c.path, c.prefix, fmt.Sprintf("overlaps %s %v", o.path, o.prefix))
		}
	}
}

func (r *resolved) checkOutboundRules() {
	r.checkCount("OutboundRules", len(r.OutboundRules), maxOutboundRules)
	index(r, "OutboundRules", r.OutboundRules, func(o OutboundRule) string { return o.Name })
	for i, o := range r.OutboundRules {
		path := fmt.Sprintf("OutboundRules[%d]", i)
		if r.SKU == Basic {
			r.add(ErrUnsupported, path, o.Name, "SKU Basic has no outbound rules")
		}
		if len(o.FrontendIPConfigurations) == 0 {
			r.add(ErrMissing, path+".FrontendIPConfigurations", o.FrontendIPConfigurations, "give one or more")
		}
		r.checkNames(path+".FrontendIPConfigurations", o.FrontendIPConfigurations, r.frontends, "FrontendIPConfigurations")
		for _, name := range o.FrontendIPConfigurations {
			f, known := r.frontends[name]
			if _, seen := r.outboundFrontends[f]; known && !seen {
				r.outboundFrontends[f] = i
			}
		}
		r.checkName(path+".BackendAddressPool", o.BackendAddressPool, r.pools, "BackendAddressPools")
		r.checkEnum(path+".Protocol", o.Protocol <= snat.UDP, uint8(o.Protocol))
		r.check(path, CheckAllocatedOutboundPorts(o.AllocatedOutboundPorts))
		r.check(path, CheckIdleTimeout(o.IdleTimeout, r.MaxOutboundIdleTimeout))
	}
}

// checkRules checks load-balancing and inbound NAT rules and collects their ports.
func (r *resolved) checkRules() {
	r.checkCount("LoadBalancingRules and InboundNATRules", len(r.LoadBalancingRules)+len(r.InboundNATRules), maxRules)
	index(r, "LoadBalancingRules", r.LoadBalancingRules, func(l LoadBalancingRule) string { return l.Name })
	index(r, "InboundNATRules", r.InboundNATRules, func(n InboundNATRule) string { return n.Name })

	for i, l := range r.LoadBalancingRules {
		path := fmt.Sprintf("LoadBalancingRules[%d]", i)
		r.checkName(path+".BackendAddressPool", l.BackendAddressPool, r.pools, "BackendAddressPools")
		r.checkPort(path+".FrontendPort", l.FrontendPort)
		r.checkRule(path, l.FrontendIPConfiguration, l.Protocol, l.FrontendPort, l.FrontendPort, l.BackendPort, l.IdleTimeout)
		if l.DisableOutboundSNAT {
			if r.SKU == Basic {
				r.add(ErrUnsupported, path+".DisableOutboundSNAT", true, "on SKU Basic load-balancing rules always translate")
			}
			continue
		}
		if f, ok := r.frontends[l.FrontendIPConfiguration]; ok {
			if o, used := r.outboundFrontends[f]; used {
				r.add(ErrConflict, path+".DisableOutboundSNAT", false,
					fmt.Sprintf("must be true, because OutboundRules[%d] uses frontend %q too", o, l.FrontendIPConfiguration))
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
				r.add(ErrConflict, path+".FrontendPortRangeStart", n.FrontendPortRangeStart, "a range needs BackendAddressPool")
			}
		} else {
			r.checkName(path+".BackendAddressPool", n.BackendAddressPool, r.pools, "BackendAddressPools")
			r.checkPort(path+".FrontendPortRangeStart", first)
			if last < first {
				r.add(ErrOutOfRange, path+".FrontendPortRangeEnd", last, fmt.Sprintf("valid are %d..65535, not below the start", first))
			}
			if n.Backend != "" || n.FrontendPort != 0 {
				r.add(ErrConflict, path+".BackendAddressPool", n.BackendAddressPool, "excludes Backend and FrontendPort")
			}
		}
		r.checkRule(path, n.FrontendIPConfiguration, n.Protocol, first, last, n.BackendPort, n.IdleTimeout)
	}
}

// checkRule checks what both kinds of rules have, and notes their frontend ports.
func (r *resolved) checkRule(path, frontend string, protocol snat.Protocol, first, last, backendPort uint16, idle time.Duration) {
	r.checkName(path+".FrontendIPConfiguration", frontend, r.frontends, "FrontendIPConfigurations")
	r.checkEnum(path+".Protocol", protocol <= snat.UDP, uint8(protocol))
	r.checkPort(path+".BackendPort", backendPort)
	r.check(path, CheckIdleTimeout(idle, cmp.Or(r.MaxRuleIdleTimeout, maxRuleIdleTimeout)))
	f, ok := r.frontends[frontend]
	if !ok || first == 0 {
		return
	}
	if r.FrontendIPConfigurations[f].PublicIPPrefix.IsValid() {
		r.add(ErrUnsupported, path+".FrontendIPConfiguration", frontend, "is a prefix, which serves outbound rules only")
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
			r.add(ErrConflict, c.path+": frontend port", c.first,
				fmt.Sprintf("%s uses it on %q too", o.path, r.FrontendIPConfigurations[c.frontend].Name))
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
		r.checkCount(fmt.Sprintf("rules of Backends[%d]", i), n, maxRulesPerBackend)
	}
}

// check records err, if any, under path.
func (r *resolved) check(path string, err error) {
	if err != nil && path != "" {
		err = fmt.Errorf("%s.%w", path, err)
	}
	if err != nil {
		r.problems = append(r.problems, err)
	}
}

func (r *resolved) checkEnum(path string, ok bool, value any) {
	if !ok {
		r.add(ErrOutOfRange, path, value, "not one of the constants")
	}
}

func (r *resolved) checkCount(path string, n, most int) {
	if n > most {
		r.add(ErrOutOfRange, "number of "+path, n, fmt.Sprintf("at most %d", most))
	}
}

func (r *resolved) checkPort(path string, port uint16) {
	if port == 0 {
		r.add(ErrOutOfRange, path, port, "valid are 1..65535")
	}
}

func (r *resolved) checkName(path, name string, known map[string]int, where string) {
	if _, ok := known[name]; name == "" {
		r.add(ErrMissing, path, name, "name one of "+where)
	} else if !ok {
		r.add(ErrUnknownName, path, name, "not among "+where)
	}
}

// checkNames checks a list of references, which must not repeat.
func (r *resolved) checkNames(path string, names []string, known map[string]int, where string) {
	seen := make(map[string]int, len(names))
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.checkName(at, name, known, where)
		if first, dup := seen[name]; dup {
			r.add(ErrDuplicateName, at, name, fmt.Sprintf("already at [%d]", first))
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
			r.add(ErrMissing, fmt.Sprintf("%s[%d].Name", path, i), n, "every resource needs a name")
		} else if dup {
			r.add(ErrDuplicateName, fmt.Sprintf("%s[%d].Name", path, i), n, fmt.Sprintf("already %s[%d]", path, first))
		} else {
			at[n] = i
		}
	}
	return at
}

// covers reports whether a rule for protocol rule applies to p, TCP or UDP.
func covers(rule, p snat.Protocol) bool { return rule == snat.All || rule == p }
