package bench

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// forwardTargets is how many targets one rule has.
const forwardTargets = 1000

// forwardConfig is one frontend's port that is forwarded to 1,000 targets.
func forwardConfig(is6, floating bool) snat.Config {
	c := snat.Config{Forwards: []snat.Forward{{Frontend: netip.MustParseAddr("20.50.255.1"), FirstPort: 443, Floating: floating}}}
	f := &c.Forwards[0]
	if is6 {
		f.Frontend = netip.MustParseAddr("2001:db8:f::ff")
	}
	for i := range forwardTargets {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		if is6 {
			a = netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i)})
		}
		c.Instances = append(c.Instances, snat.Instance{Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{a}})
		t := snat.Target{Instance: c.Instances[i].Name, Addr: a, Port: 8443}
		if floating {
			t.Port = 0
		}
		f.Targets = append(f.Targets, t)
	}
	c.IdleTimeout = time.Hour
	return c
}

// forwardClient is the i-th client.
func forwardClient(i int, is6 bool) netip.AddrPort {
	a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 14), byte(i >> 6)})
	if is6 {
		a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 5, 13: byte(i >> 22), 14: byte(i >> 14), 15: byte(i >> 6)})
	}
	return netip.AddrPortFrom(a, uint16(20_000+i%64))
}

// newForwardWorld makes flows that are begun outside. Which target each has is read from
// the packet that opened it.
func newForwardWorld(b testing.TB, flows int, is6, floating bool) *gatewayWorld {
	c := forwardConfig(is6, floating)
	nat, err := snat.New(c)
	if err != nil {
		b.Fatal(err)
	}
	w := &gatewayWorld{world: world{nat: nat, flows: flows, is6: is6}}
	front := netip.AddrPortFrom(c.Forwards[0].Frontend, c.Forwards[0].FirstPort)
	bufs, verdicts := buffers(batch), make([]flow.Verdict, batch)
	check := func(at int) {
		for i, v := range verdicts {
			if v.Action != flow.Forward {
				b.Fatalf("flow %d: %v", at+i, v.Reason)
			}
		}
	}
	for first := 0; first < flows; first += batch {
		for i := range batch {
			w.remote, w.outside = append(w.remote, forwardClient(first+i, is6)), append(w.outside, front)
			bufs[i] = tcp(bufs[i], w.remote[first+i], front, flow.SYN)
		}
		nat.InboundBatch(0, bufs, verdicts)
		check(first)
		for i := range batch {
			w.inside = append(w.inside, destinationOf(bufs[i]))
			bufs[i] = tcp(bufs[i], w.inside[first+i], w.remote[first+i], flow.SYN|flow.ACK)
		}
		nat.OutboundBatch(0, bufs, verdicts)
		check(first)
		for i := range batch {
			bufs[i] = tcp(bufs[i], w.remote[first+i], front, flow.ACK)
		}
		nat.InboundBatch(0, bufs, verdicts)
		check(first)
	}
	return w
}

// destinationOf reads the destination of a TCP packet.
func destinationOf(p []byte) netip.AddrPort {
	if p[0]>>4 == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p[22:]))
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[24:40])), binary.BigEndian.Uint16(p[42:]))
}

// sourceOf reads the source of a TCP packet.
func sourceOf(p []byte) netip.AddrPort {
	if p[0]>>4 == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[20:]))
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[8:24])), binary.BigEndian.Uint16(p[40:]))
}

// BenchmarkForward sends segments of random established connections that 1,000 targets
// have by one rule, and in the same run outbound ones, mode=snat.
func BenchmarkForward(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range []int{1024, 1_032_192} {
			if testing.Short() && flows > 1024 {
				break
			}
			modes := []struct {
				name string
				make func() (*world, func(from flow.Side) *traffic)
			}{
				{"snat", func() (*world, func(from flow.Side) *traffic) {
					w := newWorld(parent{b}, flows, ip == 6)
					return w, w.traffic
				}},
				{"rule", func() (*world, func(from flow.Side) *traffic) {
					w := newForwardWorld(b, flows, ip == 6, false)
					return &w.world, w.traffic
				}},
				{"floating", func() (*world, func(from flow.Side) *traffic) {
					w := newForwardWorld(b, flows, ip == 6, true)
					return &w.world, w.traffic
				}},
			}
			for _, mode := range modes {
				w, traffic := (*world)(nil), (func(from flow.Side) *traffic)(nil)
				for _, from := range []flow.Side{flow.Outside, flow.Inside} {
					for _, size := range []int{1, batch} {
						b.Run(fmt.Sprintf("ip=%d/from=%v/flows=%d/batch=%d/mode=%s", ip, from, flows, size, mode.name), func(b *testing.B) {
							if w == nil {
								w, traffic = mode.make()
							}
							f := newFloor(b, w.nat.Stats().Bytes)
							run(b, w, traffic(from), f, from, size)
						})
					}
				}
				if w != nil {
					w.nat.Close()
				}
			}
		}
	}
}

// BenchmarkForwardSetup opens connections from outside: a SYN, a target out of 1,000, a
// session. To be compared with BenchmarkSetup.
func BenchmarkForwardSetup(b *testing.B) {
	for _, ip := range []int{4, 6} {
		b.Run(fmt.Sprintf("ip=%d", ip), func(b *testing.B) {
			w := newForwardWorld(b, 0, ip == 6, false)
			defer w.nat.Close()
			front := netip.AddrPortFrom(forwardConfig(ip == 6, false).Forwards[0].Frontend, 443)
			o := &opening{w: &w.world, from: flow.Outside, n: 10_240, packet: func(buf []byte, i int) []byte {
				return tcp(buf, forwardClient(i, ip == 6), front, flow.SYN)
			}}
			o.measure(b, nil)
		})
	}
}
