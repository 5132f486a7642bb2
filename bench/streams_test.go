package bench

import (
	"math/rand/v2"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// stream returns n packets of 64 bytes that write makes, n a multiple of the largest batch.
func stream(n int, write func(buf []byte, i int)) *traffic {
	t := &traffic{pkts: make([]byte, n*64), n: n}
	for i := range n {
		write(t.pkts[i*64:i*64+64], i)
	}
	return t
}

// streamLen is how many packets a stream over so many flows has.
func streamLen(flows int) int { return min(trafficLen, max(flows, 1024)&^255) }

// zipf is a stream of established segments in which few flows have most of the packets:
// the k-th of a shuffled order has a share of 1/k^1.1.
func (w *world) zipf(from flow.Side) *traffic {
	rng := rand.New(rand.NewPCG(3, uint64(w.flows)))
	z := rand.NewZipf(rng, 1.1, 1, uint64(w.flows-1))
	// A multiplication by an odd number that shares no factor with the number of flows
	// stands for the shuffle: it costs no memory.
	step := uint64(coprime(w.flows))
	return stream(streamLen(w.flows), func(buf []byte, _ int) {
		w.packet(buf, int(z.Uint64()*step%uint64(w.flows)), from, flow.ACK|flow.PSH)
	})
}

// coprime returns a number near the golden section of n that shares no factor with it.
func coprime(n int) int {
	for k := max(n*5/8, 1); ; k++ {
		a, b := k, n
		for b > 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return k
		}
	}
}

// scan is a stream of segments that strangers send to ports in use: none belongs to a
// flow, so all are dropped.
func (w *world) scan(n int) *traffic {
	rng := rand.New(rand.NewPCG(4, uint64(w.flows)))
	return stream(n, func(buf []byte, _ int) {
		i, by := rng.IntN(w.flows), uint16(rng.Uint32())
		h := &w.hosts[i/portsPerInstance]
		tcp(buf, netip.AddrPortFrom(stranger(w.is6, by), 40_000+by%1000), h.outside(i%portsPerInstance), flow.ACK|flow.PSH)
	})
}

func stranger(is6 bool, i uint16) netip.Addr {
	if is6 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 6, 14: byte(i >> 8), 15: byte(i)})
	}
	return netip.AddrFrom4([4]byte{198, 19, byte(i >> 8), byte(i)})
}
