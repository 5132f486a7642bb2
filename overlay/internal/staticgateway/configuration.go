// What users configure of static gateways, and what is checked of it.

package staticgateway

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// Configuration is a StaticGatewayConfiguration.
type Configuration struct {
	Name                string // as "namespace/name" if there are namespaces
	GatewayNodepoolName string
	PublicIPPrefix      netip.Prefix // the zero Prefix is one that AKS makes
	ExcludeCIDRs        []netip.Prefix
}

// Pool is a node pool.
type Pool struct {
	Name       string
	Gateway    bool // its mode
	PrefixSize int  // length of the prefixes of its gateways
	Nodes      int
	Autoscaled bool
}

// Bounds.
const (
	MaxGateways          = 256 // our bound
	maxExcluded          = 64  // our bound
	minPrefix, maxPrefix = 28, 31
)

// managedRange is where the prefixes that AKS makes come from, a /28 for each: our choice.
var managedRange = netip.MustParsePrefix("20.61.0.0/16")

// paths of a configuration and of a pool.
const gatewaysPath, poolsPath = "StaticGatewayConfigurations", "NodePools"

// Namespace returns that of a name, "" if it has none.
func Namespace(name string) string {
	ns, _, ok := strings.Cut(name, "/")
	if !ok {
		return ""
	}
	return ns
}

// poolOf returns the pool of a name, or nil.
func poolOf(pools []Pool, name string) *Pool {
	if i := slices.IndexFunc(pools, func(p Pool) bool { return p.Name == name }); i >= 0 {
		return &pools[i]
	}
	return nil
}

// Prefixes returns the prefixes of valid configurations by name, given those that they have had: one that
// AKS makes stays as long as its configuration, and another is the next that is free.
func Prefixes(all []Configuration, pools []Pool, had map[string]netip.Prefix) map[string]netip.Prefix {
	prefixes, taken := make(map[string]netip.Prefix), make(map[netip.Addr]bool)
	for _, g := range all {
		if p, ok := had[g.Name]; g.PublicIPPrefix.IsValid() {
			prefixes[g.Name] = g.PublicIPPrefix
		} else if size := poolOf(pools, g.GatewayNodepoolName).PrefixSize; ok && managedRange.Overlaps(p) && p.Bits() == size {
			prefixes[g.Name], taken[p.Addr()] = p, true
		}
	}
	next := uint64(0)
	for _, g := range all {
		if _, ok := prefixes[g.Name]; ok {
			continue
		}
		for taken[addressing.At(managedRange, next<<4)] {
			next++
		}
		a := addressing.At(managedRange, next<<4)
		prefixes[g.Name], taken[a] = netip.PrefixFrom(a, poolOf(pools, g.GatewayNodepoolName).PrefixSize), true
	}
	return prefixes
}

// Ranges returns the ranges that the addresses of configurations come from.
func Ranges(all []Configuration) (own []ranges.Named) {
	managed := false
	for i, g := range all {
		if at := problems.Index(gatewaysPath, i); g.PublicIPPrefix.IsValid() {
			own = append(own, ranges.One(at+".PublicIPPrefix", g.PublicIPPrefix))
		} else if !managed {
			managed, own = true, append(own, ranges.One(at, managedRange))
		}
	}
	return own
}

// Check reports what is wrong with configurations and pools. reserved and tooManyNodes are the
// caller's sentinels.
func Check(l *problems.List, all []Configuration, pools []Pool, reserved, tooManyNodes error) {
	for i := range pools {
		pools[i].check(l, problems.Index(poolsPath, i), tooManyNodes)
	}
	names := make(map[string]bool)
	for i, g := range all {
		at := problems.Index(gatewaysPath, i)
		switch {
		case g.Name == "":
			l.Add(at+".Name", g.Name, problems.ErrMissing, "pods use it by its name")
		case names[g.Name]:
			l.Add(at+".Name", g.Name, problems.ErrDuplicateName, "another has it")
		}
		names[g.Name] = true
		pool := poolOf(pools, g.GatewayNodepoolName)
		if pool == nil || !pool.Gateway {
			l.Add(at+".GatewayNodepoolName", g.GatewayNodepoolName, problems.ErrUnknownName, "no such pool of Mode Gateway in NodePools")
		}
		if p := g.PublicIPPrefix; p.IsValid() {
			if err := lb.CheckPublicIPPrefix(p, false); err != nil {
				l.Include(at+".PublicIPPrefix", err)
			} else if !p.Addr().Is4() || pool != nil && p.Bits() != pool.PrefixSize {
				l.Add(at+".PublicIPPrefix", p, problems.ErrConflict, "must be IPv4, and of the GatewayPublicIPPrefixSize of pool %q", g.GatewayNodepoolName)
			}
		}
		problems.AtMost(l, at+".ExcludeCIDRs", len(g.ExcludeCIDRs), "elements", maxExcluded)
		for _, r := range ranges.In(at+".ExcludeCIDRs", g.ExcludeCIDRs[:min(len(g.ExcludeCIDRs), maxExcluded)]) {
			ranges.Check(l, r, reserved)
		}
	}
}

// check reports what is wrong with a pool, which is at a path.
func (p *Pool) check(l *problems.List, at string, tooManyNodes error) {
	size := at + ".GatewayPublicIPPrefixSize"
	if !p.Gateway {
		if p.PrefixSize != 0 {
			l.Add(size, p.PrefixSize, problems.ErrConflict, "is for a pool of Mode Gateway")
		}
		return
	}
	if p.Autoscaled {
		l.Add(at+".MaxCount", problems.None, problems.ErrConflict, "a gateway pool has no autoscaler")
	}
	if problems.Between(l, size, p.PrefixSize, minPrefix, maxPrefix) && p.Nodes > 1<<(32-p.PrefixSize) {
		l.Add(at+".Count", p.Nodes, tooManyNodes, "a /%d has addresses for %d", p.PrefixSize, 1<<(32-p.PrefixSize))
	}
}
