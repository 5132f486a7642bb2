package deterministic

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Validate reports every problem of p in one error; see the fields for what is
// allowed. Every subscriber must get at least one port.
func (p Parameters) Validate() error {
	if all := p.Problems(); len(all) > 0 {
		return fmt.Errorf("deterministic: %w", errors.Join(all...))
	}
	return nil
}

// Problems returns what Validate reports, each problem an error that begins with the
// name of its field, and a hundred at most. They wrap [flow.ErrPrefix],
// [flow.ErrOutOfRange] or [flow.ErrTooMany].
func (p Parameters) Problems() []error {
	var v problems
	v.parameters(&p)
	return v
}

// problems collects complaints.
type problems []error

// maxProblems bounds the length of an error.
const maxProblems = 100

func (v *problems) add(format string, args ...any) {
	if len(*v) < maxProblems {
		*v = append(*v, fmt.Errorf(format, args...))
	}
}

func (v *problems) parameters(p *Parameters) {
	v.addresses("Inside", p.Inside)
	v.addresses("Outside", p.Outside)
	if p.DynamicFactor < 0 || p.DynamicFactor > 65535-flow.SystemPorts {
		v.add("DynamicFactor %d: %w: 0..%d", p.DynamicFactor, flow.ErrOutOfRange, 65535-flow.SystemPorts)
	}
	if p.MaxPorts < 0 || p.MaxPorts > 65536-flow.SystemPorts {
		v.add("MaxPorts %d: %w: 0..%d", p.MaxPorts, flow.ErrOutOfRange, 65536-flow.SystemPorts)
	}
	if a := p.Algorithm; a != Sequential && a != Staggered && a != KeyedRandom {
		v.add("Algorithm %d: %w: 0, 1 or 4", a, flow.ErrOutOfRange)
	}
	for i, r := range p.Reserved {
		if r.First > r.Last {
			v.add("Reserved[%d] %v: %w: First is above Last", i, r, flow.ErrOutOfRange)
		}
	}
	if len(*v) > 0 {
		return
	}
	if p.Inside[0].Addr().Is4() != p.Outside[0].Addr().Is4() {
		v.add("Outside[0] %v: %w: not of the address family of Inside", p.Outside[0], flow.ErrPrefix)
		return
	}
	m := compute(p)
	switch {
	case m.share < 1:
		v.add("Inside: %w: %d subscribers and %d shares on each of %d addresses with %d ports leave none", flow.ErrOutOfRange,
			m.subscribers, m.ratio+p.DynamicFactor, m.addresses, m.usable())
	case p.MaxPorts != 0 && p.MaxPorts < m.share:
		v.add("MaxPorts %d: %w: a share is %d", p.MaxPorts, flow.ErrOutOfRange, m.share)
	}
}

// addresses checks a list of prefixes that are enumerated.
func (v *problems) addresses(field string, list []netip.Prefix) {
	if len(list) == 0 {
		v.add("%s: %w: empty", field, flow.ErrPrefix)
		return
	}
	total := 0
	for i, p := range list {
		switch {
		case !p.IsValid() || p.Masked() != p || p.Addr().Is4In6():
			v.add("%s[%d] %v: %w", field, i, p, flow.ErrPrefix)
			return
		case p.Addr().Is4() != list[0].Addr().Is4():
			v.add("%s[%d] %v: %w: not of the address family of %s[0]", field, i, p, flow.ErrPrefix, field)
			return
		case p.Addr().BitLen()-p.Bits() > bits.Len(maxAddresses-1):
			v.add("%s[%d] %v: %w: %d addresses at most", field, i, p, flow.ErrTooMany, maxAddresses)
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
		v.add("%s[%d] %v: %w: overlaps %s[%d] %v", field, max(i, last), list[max(i, last)], flow.ErrPrefix, field, min(i, last), list[min(i, last)])
	}
	if total > maxAddresses {
		v.add("%s: %d addresses: %w: at most %d", field, total, flow.ErrTooMany, maxAddresses)
	}
}
