package bench

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// portsPerInstance is what Azure gives each instance of a pool of up to 50.
const portsPerInstance = 1024

// world is a NAT with established TCP flows: instance i has 1,024 ports and as
// many connections to one destination.
type world struct {
	nat   *snat.NAT
	is6   bool
	flows int
	hosts []host
	now   flow.Time
}

type host struct {
	inside, frontend netip.Addr
	firstPort        uint16
	untranslated     bool // the outside sees the inside's ports
}

// outside is the socket by which the outside knows an instance's k-th flow.
func (h *host) outside(k int) netip.AddrPort {
	if h.untranslated {
		return netip.AddrPortFrom(h.frontend, insidePort(k))
	}
	return netip.AddrPortFrom(h.frontend, h.firstPort+uint16(k))
}

var (
	remote4 = netip.MustParseAddrPort("203.0.113.80:443")
	remote6 = netip.MustParseAddrPort("[2001:db8:5::7]:443")
)

func remote(is6 bool) netip.AddrPort {
	if is6 {
		return remote6
	}
	return remote4
}

// config lays flows out over instances of 1,024 ports, 62 instances a frontend.
func config(flows int, is6 bool) (snat.Config, []host) {
	var c snat.Config
	var hosts []host
	n := (flows + portsPerInstance - 1) / portsPerInstance
	for i := range n {
		h := host{firstPort: uint16(1024 + i%62*portsPerInstance)}
		fe := i / 62
		if is6 {
			h.inside = netip.AddrFrom16([16]byte{0xfd, 1, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
			h.frontend = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0xf, 14: byte(fe >> 8), 15: byte(fe)})
		} else {
			h.inside = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			h.frontend = netip.AddrFrom4([4]byte{20, 50, byte(fe >> 8), byte(fe)})
		}
		hosts = append(hosts, h)
		c.Instances = append(c.Instances, snat.Instance{
			Name:  fmt.Sprint("vm", i),
			Addrs: []netip.Addr{h.inside},
			Ports: []snat.PortRange{{Frontend: h.frontend, First: h.firstPort, Count: portsPerInstance}},
		})
	}
	c.IdleTimeout = time.Hour
	c.HashKey = 1 // the same chains in every run
	return c, hosts
}

// newWorld sets all flows up and establishes them.
func newWorld(b testing.TB, flows int, is6 bool) *world {
	c, hosts := config(flows, is6)
	w := build(b, c, hosts, flows, is6)
	w.establish(b)
	return w
}

// build makes a world without flows.
func build(b testing.TB, c snat.Config, hosts []host, flows int, is6 bool) *world {
	nat, err := snat.New(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nat.Close)
	return &world{nat: nat, is6: is6, flows: flows, hosts: hosts}
}

// establish takes all flows through the handshake.
func (w *world) establish(b testing.TB) {
	w.span(b, 0, w.flows, flow.Inside, flow.SYN)
	w.span(b, 0, w.flows, flow.Outside, flow.SYN|flow.ACK)
	w.span(b, 0, w.flows, flow.Inside, flow.ACK)
}

// span sends one segment on each flow of a range, in order.
func (w *world) span(b testing.TB, first, end int, from flow.Side, flags uint8) {
	const k = 64
	pkts, verdicts := buffers(k), make([]flow.Verdict, k)
	for ; first < end; first += k {
		n := min(k, end-first)
		for i := range n {
			pkts[i] = w.packet(pkts[i], first+i, from, flags)
		}
		if from == flow.Inside {
			w.nat.OutboundBatch(w.now, pkts[:n], verdicts)
		} else {
			w.nat.InboundBatch(w.now, pkts[:n], verdicts)
		}
		for i, v := range verdicts[:n] {
			if v.Action != flow.Forward {
				b.Fatalf("flow %d: %v %v: %s", first+i, v.Action, v.Reason, pkttest.String(pkts[i]))
			}
		}
	}
}

// packet writes the segment of a flow into buf that its sender would send next.
func (w *world) packet(buf []byte, i int, from flow.Side, flags uint8) []byte {
	h := &w.hosts[i/portsPerInstance]
	inside := netip.AddrPortFrom(h.inside, insidePort(i%portsPerInstance))
	outside := h.outside(i % portsPerInstance)
	if from == flow.Inside {
		return tcp(buf, inside, remote(w.is6), flags)
	}
	return tcp(buf, remote(w.is6), outside, flags)
}

// insidePort is the source port of an instance's k-th flow, k < 1,024: as good as random,
// but no two are the same, since an odd factor permutes 16 bits, and none is 0.
func insidePort(k int) uint16 { return uint16(k+1) * 0x9e37 }

// random is a source of random numbers that is the same in every run.
func (w *world) random(stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(stream, uint64(w.flows)))
}

// traffic is a precomputed stream of packets of random flows, so that making
// them costs the measured loop nothing but a sequential copy.
type traffic struct {
	pkts []byte // 64 bytes each
	n    int
	next int
}

// trafficLen bounds the stream: 16 MiB of packets; it is repeated.
const trafficLen = 1 << 18

func (w *world) traffic(from flow.Side) *traffic {
	n := min(trafficLen, max(w.flows, 1024)&^63)
	t := &traffic{pkts: make([]byte, n*64), n: n}
	rng := rand.New(rand.NewPCG(1, uint64(w.flows)))
	for i := range n {
		w.packet(t.pkts[i*64:i*64+64], rng.IntN(w.flows), from, flow.ACK|flow.PSH)
	}
	return t
}

// copyIn copies the next len(pkts) packets of the stream.
func (t *traffic) copyIn(pkts [][]byte) {
	if t.next+len(pkts) > t.n {
		t.next = 0
	}
	for i := range pkts {
		pkts[i] = pkts[i][:64]
		dst, src := (*[8]uint64)(unsafe.Pointer(&pkts[i][0])), (*[8]uint64)(unsafe.Pointer(&t.pkts[(t.next+i)*64]))
		// Less than the call of memmove that copy would be.
		dst[0], dst[1], dst[2], dst[3] = src[0], src[1], src[2], src[3]
		dst[4], dst[5], dst[6], dst[7] = src[4], src[5], src[6], src[7]
	}
	t.next += len(pkts)
}
