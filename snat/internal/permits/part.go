package permits

import (
	"math/bits"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
)

// part is some permits of a stripe: open addressing. Permits go by making the slots anew, which
// happens when twice as many have come as stayed the last time, so half of them and more are free.
// The zero part has none. All but what slots points to is changed under the lock of the stripe.
type part struct {
	slots   atomic.Pointer[slots]
	n       int       // in use
	sweepAt int       // permits; then what is over goes
	swept   flow.Time // when it last did
}

// slots are those of a part: a power of two, twice sweepAt and more.
type slots []permit

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

// find returns the slot of a flow with a hash, or the one where it would be, which was free.
func (p *slots) find(f *Flow, hash uint64) (s *permit, used bool) {
	all := *p
	mask := uint64(len(all) - 1)
	for i := hash; ; i++ {
		if s = &all[i&mask]; s.state.Load() == free {
			return s, false
		} else if s.flow.is(f) {
			return s, true
		}
	}
}

// keep keeps the permits for which stays is true, and makes room for as many again, or for all
// that there may be.
func (p *part) keep(key uint64, stays func(*permit) bool) {
	var was slots
	if old := p.slots.Load(); old != nil {
		was = *old
	}
	kept := make([]uint32, 0, p.n)
	for i := range was {
		if s := &was[i]; s.state.Load() != free && stays(s) {
			kept = append(kept, uint32(i))
		}
	}
	p.n = len(kept)
	p.sweepAt = min(max(sweepFrom, 2*p.n), maxPerPart)
	size := 2 * sweepFrom
	for size < 2*p.sweepAt {
		size *= 2
	}
	is := make(slots, size)
	for _, i := range kept {
		s := &was[i]
		to, _ := is.find(&s.flow, s.flow.hash(key))
		to.flow = s.flow
		to.last.Store(s.last.Load())
		to.state.Store(s.state.Load())
	}
	p.slots.Store(&is)
	for _, i := range kept { // what packets have prolonged meanwhile
		s := &was[i]
		to, _ := is.find(&s.flow, s.flow.hash(key))
		to.prolong(flow.Time(s.last.Load()))
	}
}
