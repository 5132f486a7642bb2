// Replay: the conversations of a trace as a stream of their own.

package whatif

import (
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/segments"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
)

// gap is the longest time without packets in a conversation of a trace; our choice.
const gap = time.Minute

// traceName is the name of the trace in results.
const traceName = "trace"

// recorded is a flow of a trace.
type recorded struct {
	trace.Flow
	host, peer uint32
	exchanges  uint32 // or datagrams each way
	message    uint16 // bytes of each
	pause      int64  // between two, in steps
}

// leap returns the step by which hosts are dealt to n others: each gets one before any gets two, and
// neighbours, which may be of one node, come far apart.
func leap(n int) int {
	step := max(1, int(float64(n)*0.618)) // of the golden section, which spreads any number of them evenly
	for gcd(step, n) != 1 {
		step++
	}
	return step
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// addTrace compiles the trace.
func (s *Simulation) addTrace(l *problems.List, c Config) {
	if len(c.Workload.Trace) == 0 {
		return
	}
	st := stream{Class: Class{}.withDefaults(), index: uint32(len(s.streams)), recorded: make([]recorded, 0, len(c.Workload.Trace))}
	st.counts.Name = traceName
	st.chance = chance(c.Workload.Seed, len(c.Workload.Traffic))
	st.rtt, st.timeout = s.steps(st.RTT), s.steps(st.ConnectTimeout)
	for i := range c.Hosts {
		st.hosts = append(st.hosts, uint32(i))
	}
	names := make(map[string]uint32)
	for i, h := range c.Hosts {
		names[h.Name] = uint32(i)
	}
	type name struct {
		host string
		src  netip.Addr
	}
	dealt, step := make(map[name]uint32), leap(len(c.Hosts)) // hosts of somewhere else
	peers := make(map[peer]uint32)
	for i := range c.Workload.Trace {
		f := recorded{Flow: c.Workload.Trace[i]}
		who := name{f.Host, f.Src}
		h, ok := names[f.Host]
		if !ok && f.Src.IsValid() {
			h, ok = s.byAddr[addrOf(f.Src)]
		}
		if !ok {
			if h, ok = dealt[who]; !ok {
				h = uint32(len(dealt) * step % len(c.Hosts))
				dealt[who] = h
			}
		}
		f.host = h
		if !s.hosts[h].has[flow.Family(f.Dst.Addr())] {
			l.Add(problems.Index("Workload.Trace", i)+".Dst", f.Dst, flow.ErrAddress, "%q has no address of that family", c.Hosts[h].Name)
			if l.Full() {
				return
			}
		}
		p := peer{addrOf(f.Dst.Addr()), f.Dst.Port()}
		if f.peer, ok = peers[p]; !ok {
			f.peer = uint32(len(st.peers))
			peers[p] = f.peer
			st.peers = append(st.peers, p)
		}
		s.course(&f, &st)
		st.recorded = append(st.recorded, f)
	}
	s.arrivals.Push(arrival{s.begin.Add(st.recorded[0].Start), st.index})
	s.streams = append(s.streams, st)
}

// course decides how many exchanges a flow has, and when, so that it lasts as long as it did.
func (s *Simulation) course(f *recorded, st *stream) {
	own := 2 * st.RTT // of a connection with one exchange
	if f.UDP {
		own = st.RTT
	}
	f.exchanges, f.pause = 1, 1
	if left := f.Duration - own; left > 0 {
		n := (left + gap - 1) / gap
		f.exchanges += uint32(n)
		f.pause = s.steps(left / n)
		if !f.UDP { // a pause begins with an answer, a round trip after its request
			f.pause = max(1, f.pause-st.rtt)
		}
	}
	f.message = DefaultRequestBytes
	if f.Bytes > 0 {
		f.message = uint16(min(f.Bytes/uint64(2*f.exchanges), segments.MaxPayload))
	}
}
