package deterministic

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Validate reports every problem of p in one error; see the fields for what is
// allowed. Every subscriber must get at least one port. Problems wrap sentinels of package
// flow.
func (p Parameters) Validate() error {
	var l problems.List
	p.validate(&l)
	return l.Err()
}

func (p *Parameters) validate(l *problems.List) {
	checkAddresses(l, "Inside", p.Inside)
	checkAddresses(l, "Outside", p.Outside)
	problems.Between(l, "DynamicFactor", p.DynamicFactor, 0, 65535-flow.SystemPorts)
	problems.Between(l, "MaxPorts", p.MaxPorts, 0, 65536-flow.SystemPorts)
	if a := p.Algorithm; a != Sequential && a != Staggered && a != KeyedRandom {
		l.Add("Algorithm", uint8(a), flow.ErrOutOfRange, "0, 1 or 4")
	}
	for i, r := range p.Reserved {
		if r.First > r.Last {
			l.Add(problems.Index("Reserved", i), r, flow.ErrOutOfRange, "First is above Last")
		}
	}
	if l.Len() > 0 {
		return
	}
	if p.Inside[0].Addr().Is4() != p.Outside[0].Addr().Is4() {
		l.Add("Outside[0]", p.Outside[0], flow.ErrPrefix, "not of the address family of Inside")
		return
	}
	m := compute(p)
	switch {
	case m.share < 1:
		l.Add("Inside", problems.None, flow.ErrOutOfRange, "%d subscribers and %d shares on each of %d addresses with %d ports leave none",
			m.subscribers, m.ratio+p.DynamicFactor, m.addresses, m.usable())
	case p.MaxPorts != 0 && p.MaxPorts < m.share:
		l.Add("MaxPorts", p.MaxPorts, flow.ErrOutOfRange, "a share is %d", m.share)
	}
}

// checkAddresses checks a list of prefixes that are enumerated.
func checkAddresses(l *problems.List, field string, list []netip.Prefix) {
	if len(list) == 0 {
		l.Add(field, problems.None, flow.ErrMissing, "one prefix at least")
		return
	}
	total := 0
	for i, p := range list {
		switch {
		case !p.IsValid() || p.Masked() != p || p.Addr().Is4In6():
			l.Add(problems.Index(field, i), p, flow.ErrPrefix, "")
			return
		case p.Addr().Is4() != list[0].Addr().Is4():
			l.Add(problems.Index(field, i), p, flow.ErrPrefix, "not of the address family of %s[0]", field)
			return
		case p.Addr().BitLen()-p.Bits() > bits.Len(maxAddresses-1):
			l.Add(problems.Index(field, i), p, flow.ErrTooMany, "%d addresses at most", maxAddresses)
			return
		}
		total += 1 << (p.Addr().BitLen() - p.Bits())
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Or(list[i].Compare(list[j]), cmp.Compare(i, j)) })
	for k, last := 1, order[0]; k < len(order); k++ { // last reaches furthest of those before
		i := order[k]
		if !list[last].Overlaps(list[i]) {
			last = i
			continue
		}
		first, second := min(i, last), max(i, last)
		l.Add(problems.Index(field, second), list[second], flow.ErrOverlap, "with %s[%d] %v", field, first, list[first])
	}
	problems.AtMost(l, field, total, "addresses", maxAddresses)
}
