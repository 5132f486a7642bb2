// Package claims compares which frontend ports the rules of a load balancer claim, and finds those
// that two of them claim although one port serves one rule.
//
// It refuses to know what rules are otherwise, and which frontends there are.
package claims

import (
	"cmp"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// Claim is a run of frontend ports that a rule uses, in one protocol.
type Claim struct {
	Frontend    int           // its configuration
	Protocol    snat.Protocol // TCP or UDP
	First, Last uint16
	Path        string // of the rule
	Floating    bool   // the port is that of the backend too
	HAPorts     bool   // all ports, of any protocol
}

// Sort sorts claims by frontend, protocol and first port; those that are alike keep their order.
func Sort(all []Claim) {
	slices.SortStableFunc(all, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Frontend, b.Frontend), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
}

// Conflicts calls report for pairs of claims, which are sorted, that overlap, unless both float
// and one of them has HA ports: c is the later one, o the earlier. Every claim that conflicts with an
// earlier one is reported, once for each pair of rules, whatever their protocols. Cost: O(claims).
func Conflicts(all []Claim, report func(c, o *Claim)) {
	reported := map[[2]string]bool{}
	for _, haPorts := range []bool{false, true} {
		some := slices.DeleteFunc(slices.Clone(all), func(c Claim) bool { return c.Floating && c.HAPorts != haPorts })
		for i, outer := 1, 0; i < len(some); i++ {
			o, c := &some[outer], &some[i]
			if o.Frontend != c.Frontend || o.Protocol != c.Protocol || o.Last < c.First {
				outer = i
				continue
			}
			if pair := [2]string{o.Path, c.Path}; !reported[pair] {
				reported[pair] = true
				report(c, o)
			}
			if c.Last > o.Last {
				outer = i
			}
		}
	}
}
