package snat

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// PortBlocks lets subscribers share an instance's ports in blocks. The zero value
// does not; then nothing but Limits keeps a subscriber from using all of them. It
// needs a paired Pooling, and [NAT.Reconfigure] cannot change it.
type PortBlocks struct {
	// Size is the ports of a block, of each protocol: a power of two from 8 to
	// 32,768, of which First and Count of all Instance.Ports must be multiples,
	// with Protocol All. 0 means no blocks. A new subscriber is granted a free
	// block at random, which is our choice; within it Allocation decides. Another
	// one follows only when the flow at hand can have no port of those it has.
	Size int

	// PerSubscriber is how many blocks a subscriber may have at once, in addition
	// to its fixed ports if it has such. A flow for which this is not enough is
	// refused (flow.ReasonQuota). 0 is no limit but Deterministic.MaxPorts, which
	// is our choice.
	PerSubscriber int
}

// valid reports whether Size is one that blocks can have, or 0.
func (b *PortBlocks) valid() bool {
	return b.Size == 0 || b.Size >= BlockSize && b.Size <= 32768 && b.Size&(b.Size-1) == 0
}

// blocks checks Owned.Blocks.
func (v *validation) blocks(b *PortBlocks) {
	if !b.valid() {
		v.Add("Blocks.Size", b.Size, flow.ErrOutOfRange, "a power of two from %d to 32768", BlockSize)
	}
	if n := b.PerSubscriber; n < 0 || n > math.MaxInt32 || n > 0 && b.Size == 0 {
		v.Add("Blocks.PerSubscriber", n, flow.ErrOutOfRange, "0..2^31-1, and 0 without Size")
	}
}

// deterministicInstance checks that a deterministic mapping is about the addresses
// and ports of its instance.
func (v *validation) deterministicInstance(i int, inst *Instance) {
	d, field := inst.Deterministic, fmt.Sprintf("Instances[%d].Deterministic", i)
	m, err := deterministic.New(*d)
	if err != nil {
		v.Include(field, d.Validate())
		return
	}
	if d.Algorithm != deterministic.Sequential {
		v.Add(field+".Algorithm", d.Algorithm, flow.ErrOutOfRange, "a translator allocates Sequential ports only")
	}
	is4 := d.Inside[0].Addr().Is4()
	inside, subscribers := setOf(inst.Inside), setOf(d.Inside)
	for j, p := range d.Inside {
		if !inside[p] {
			v.Add(fmt.Sprintf("%s.Inside[%d]", field, j), p, flow.ErrPrefix, "not in Instances[%d].Inside", i)
		}
	}
	for j, p := range inst.Inside {
		if p.Addr().Is4() == is4 && !subscribers[p] {
			v.Add(fmt.Sprintf("Instances[%d].Inside[%d]", i, j), p, flow.ErrPrefix, "not in Deterministic.Inside")
		}
	}
	granted := map[netip.Addr][]flow.PortSpan{}
	for _, r := range inst.Ports {
		if r.Protocol == All && r.Count > 0 {
			granted[r.Frontend] = append(granted[r.Frontend], flow.PortSpan{First: r.First, Last: uint16(min(int(r.First)+r.Count-1, 65535))})
		}
	}
	for _, spans := range granted {
		slices.SortFunc(spans, func(a, b flow.PortSpan) int { return int(a.First) - int(b.First) })
	}
	for _, p := range d.Outside {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			for s := range m.Usable() {
				next := int(s.First)
				for _, r := range granted[a] {
					if int(r.First) <= next && next <= int(r.Last) {
						next = int(r.Last) + 1
					}
				}
				if next <= int(s.Last) {
					v.Add(field+".Outside", problems.None, ErrPorts,
						"port %d of %v is not in Instances[%d].Ports, with Protocol All, nor reserved", next, a, i)
					return
				}
			}
		}
	}
}

// setOf returns the set of a list.
func setOf[T comparable](list []T) map[T]bool {
	set := make(map[T]bool, len(list))
	for _, x := range list {
		set[x] = true
	}
	return set
}
