package snat

import (
	"iter"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// granted is what instances are granted, as it is checked: range by range, so that it costs
// memory for frontends only.
type granted struct {
	all   []frontend // different ones, in the order of the first range of each
	at    map[netip.Addr]int
	next  int  // the frontend that probably comes next, as all instances have their ports alike
	twice bool // some port is
}

// frontend is a frontend and which of its blocks are granted.
type frontend struct {
	addr            netip.Addr
	instance, index int         // where its first range stands
	host            bool        // addr is what a frontend can be
	forwarded       bool        // some of its ports are
	taken           [2][]uint64 // blocks of TCP and of UDP, a bit each, up to the last that is
}

// grant is a valid port range of one protocol and where it stands.
type grant struct {
	PortRange
	instance, index int
}

// frontend returns the frontend at an address, which range index of an instance names, or nil
// if that is none. It is good until the next call.
func (g *granted) frontend(instance, index int, a netip.Addr) *frontend {
	k, known := g.next, g.next < len(g.all) && g.all[g.next].addr == a
	if !known {
		k, known = g.at[a]
	}
	if !known {
		if !a.IsValid() {
			return nil
		}
		if g.at == nil {
			g.at = map[netip.Addr]int{}
		}
		k = len(g.all)
		g.at[a] = k
		g.all = append(g.all, frontend{addr: a, instance: instance, index: index, host: flow.IsHost(a)})
	}
	g.next = k + 1
	return &g.all[k]
}

// grant grants the ports of a valid range of a frontend.
func (g *granted) grant(f *frontend, r *PortRange) {
	for proto := TCP; proto <= UDP; proto++ {
		if r.Protocol != All && r.Protocol != proto {
			continue
		}
		block, end := int(r.First)/BlockSize, (int(r.First)+r.Count)/BlockSize
		taken := f.taken[proto-TCP]
		if n := (end + 63) / 64; n > len(taken) {
			taken = append(taken, make([]uint64, n-len(taken))...)
			f.taken[proto-TCP] = taken
		}
		for block < end {
			n := min(64-block%64, end-block)
			bits := uint64(1<<n-1) << (block % 64)
			g.twice = g.twice || taken[block/64]&bits != 0
			taken[block/64] |= bits
			block += n
		}
	}
}

// ranges ranges over all that instances, which have been checked, are granted on some of the
// frontends.
func (g *granted) ranges(instances []Instance, some func(*frontend) bool) iter.Seq[grant] {
	return func(yield func(grant) bool) {
		for i := range instances {
			for j := range instances[i].Ports {
				r := &instances[i].Ports[j]
				f := g.frontend(i, j, r.Frontend)
				if f == nil || !f.host || r.Protocol > UDP || !r.wholeBlocks() || !some(f) {
					continue
				}
				for _, proto := range r.protocols() {
					of := grant{*r, i, j}
					if of.Protocol = proto; !yield(of) {
						return
					}
				}
			}
		}
	}
}

// wholeBlocks reports whether a range is of whole blocks, and not the first one.
func (r *PortRange) wholeBlocks() bool {
	return r.First >= BlockSize && r.First%BlockSize == 0 && r.Count > 0 && r.Count%BlockSize == 0 && int(r.First)+r.Count <= 65536
}
