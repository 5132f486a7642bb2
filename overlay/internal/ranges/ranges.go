// Package ranges finds address ranges of a configuration that overlap or are reserved, and
// says so with the fields that they stand in. It has no state.
package ranges

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Named is a range, the field it stands in and how it is written there.
type Named struct {
	netip.Prefix
	Field string
	Value fmt.Stringer
}

// In names the ranges of a list by the list's field.
func In(field string, ranges []netip.Prefix) (all []Named) {
	for i, p := range ranges {
		all = append(all, Named{p, problems.Index(field, i), p})
	}
	return all
}

// One names a range.
func One(field string, p netip.Prefix) Named { return Named{p, field, p} }

// Host names an address as a range.
func Host(field string, a netip.Addr) Named {
	return Named{netip.PrefixFrom(a, a.BitLen()), field, a}
}

// Within reports whether a range lies inside one of others.
func Within(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
}

// Check reports whether a range is in canonical form and of hosts; else it adds a problem, which
// wraps reserved if these are no hosts' addresses.
func Check(l *problems.List, p Named, reserved error) bool {
	switch {
	case !p.IsValid():
		l.Add(p.Field, p.Value, flow.ErrPrefix, "must be a valid prefix")
	case p.Addr().Is4In6():
		l.Add(p.Field, p.Value, flow.ErrPrefix, "IPv4-mapped IPv6 prefix, write it as IPv4")
	case p.Prefix != p.Masked():
		l.Add(p.Field, p.Value, flow.ErrPrefix, "has host bits set, write %v", p.Masked())
	case !flow.IsHost(p.Addr()):
		l.Add(p.Field, p.Value, reserved, "these are no hosts' addresses")
	default:
		return true
	}
	return false
}

// Disjoint adds a problem if a range overlaps others: the first of them.
func Disjoint(l *problems.List, a Named, others []Named) {
	if i := slices.IndexFunc(others, func(b Named) bool { return a.Overlaps(b.Prefix) }); i >= 0 {
		l.Add(a.Field, a.Value, flow.ErrOverlap, "with %s %v", others[i].Field, others[i].Value)
	}
}

// Apart adds a problem for each range that overlaps one before it in the list. Ranges
// nest or are disjoint, so an overlap shows against the outermost.
func Apart(l *problems.List, all []Named) {
	prefixes.Nested(len(all), func(i int) netip.Prefix { return all[i].Prefix }, func(open []int, i int) {
		if len(open) > 0 {
			first, second := min(open[0], i), max(open[0], i)
			Disjoint(l, all[second], all[first:first+1])
		}
	})
}

// Unreserved adds a problem, which wraps err, for each range and reserved range that overlap.
func Unreserved(l *problems.List, all []Named, reserved []netip.Prefix, err error) {
	for _, p := range all {
		for _, r := range reserved {
			if p.IsValid() && p.Overlaps(r) {
				l.Add(p.Field, p.Value, err, "%v must not be used", r)
			}
		}
	}
}
