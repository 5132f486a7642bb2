package permits

import (
	"math/bits"

	"github.com/seed-a61be3fe/natplane/flow"
)

// part is some permits of a stripe, guarded by its lock: open addressing. Permits go by making
// the slots anew, which happens when twice as many have come as stayed the last time, so half of
// them and more are free. The zero part has none, and is not asked.
type part struct {
	slots   []permit  // a power of two, twice sweepAt and more
	n       int       // in use
	sweepAt int       // permits; then what is over goes
	swept   flow.Time // when it last did
}

// hash returns that of a flow. All its bits are good.
func (f *Flow) hash(key uint64) uint64 {
	ports := uint64(f.InsidePort)<<16 | uint64(f.RemotePort)
	hi, lo := bits.Mul64(f.Remote[0]^ports<<32^key, f.Remote[1]^0x9e3779b97f4a7c15)
	hi, lo = bits.Mul64(f.Inside[0]^uint64(f.Instance)<<32^hi^lo, f.Inside[1]^uint64(f.Proto)^0xd6e8feb86659fd93)
	return (hi ^ lo) * 0xbf58476d1ce4e5b9
}

// is reports whether two flows are the same one. Where Go compares them it calls a function.
func (f *Flow) is(g *Flow) bool {
	return f.Remote[0] == g.Remote[0] && f.Remote[1] == g.Remote[1] && f.Inside[0] == g.Inside[0] && f.Inside[1] == g.Inside[1] &&
		f.InsidePort == g.InsidePort && f.RemotePort == g.RemotePort && f.Instance == g.Instance && f.Proto == g.Proto && f.V6 == g.V6
}

// find returns the slot of a flow with a hash, or the free one where it would be.
func (p *part) find(f *Flow, hash uint64) *permit {
	mask := uint64(len(p.slots) - 1)
	for i := hash; ; i++ {
		if s := &p.slots[i&mask]; !s.used || s.flow.is(f) {
			return s
		}
	}
}

// keep keeps the permits for which stays is true, and makes room for as many again, or for all
// that there may be.
func (p *part) keep(key uint64, stays func(*permit) bool) {
	was := p.slots
	p.n = 0
	for i := range was {
		if was[i].used = was[i].used && stays(&was[i]); was[i].used {
			p.n++
		}
	}
	p.sweepAt = min(max(sweepFrom, 2*p.n), maxPerPart)
	size := 2 * sweepFrom
	for size < 2*p.sweepAt {
		size *= 2
	}
	p.slots = make([]permit, size)
	for i := range was {
		if s := &was[i]; s.used {
			*p.find(&s.flow, s.flow.hash(key)) = *s
		}
	}
}
