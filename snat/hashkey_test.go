package snat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// halves cuts an IPv4 packet into two fragments.
func halves(pkt []byte) [2][]byte {
	at := ip4Header + (len(pkt)-ip4Header)/2&^7
	first, rest := append(wire.IPv4(nil), pkt[:at]...), append(append(wire.IPv4(nil), pkt[:ip4Header]...), pkt[at:]...)
	first.SetFragment(wire.IPv4MF, 0)
	rest.SetFragment(0, at-ip4Header)
	for _, h := range []wire.IPv4{first, rest} {
		h.SetTotalLength(uint16(len(h)))
		h.ComputeChecksum()
	}
	return [2][]byte{first, rest}
}

const ip4Header = 20

// transcript plays random traffic of three hosts, with replies, strangers, pieces,
// pauses and idle ends, and returns all that a user of the NAT can see.
func transcript(t *testing.T, c snat.Config) (lines []string) {
	b := newBed(t, c)
	rng := rand.New(rand.NewPCG(5, 5))
	var left [][]byte // the packets that went out
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	see := func(v flow.Verdict, pkt []byte) {
		if say("%v: %v %s %x", b.now, v, verdict(v, pkt), pkt); v.Action == flow.Forward && v.To == flow.Outside {
			left = append(left, pkt)
		}
	}
	flags := []string{"S", "S", "S", "A", "FA", "R"}
	for i := range pkttest.Operations(800, 3000, 30_000) {
		src := fmt.Sprintf("10.0.0.%d:%d", rng.IntN(3), 1024+rng.IntN(40))
		dst := fmt.Sprintf("198.51.100.%d:%d", rng.IntN(4), 443+rng.IntN(3))
		switch rng.IntN(8) {
		case 0, 1:
			pkt := pkttest.TCP(src, dst, pkttest.TCPFlags(flags[rng.IntN(len(flags))]), pkttest.Seq(1), pkttest.Ack(1))
			see(b.Outbound(b.now, pkt), pkt)
		case 2, 3:
			pkt := pkttest.UDP(src, dst, "some text")
			see(b.Outbound(b.now, pkt), pkt)
		case 4:
			pkt := pkttest.ICMPEcho(netip.MustParseAddrPort(src).Addr().String(), netip.MustParseAddrPort(dst).Addr().String(), uint16(rng.IntN(9)), 1)
			see(b.Outbound(b.now, pkt), pkt)
		case 5:
			parts := halves(pkttest.UDP(src, dst, fmt.Sprintf("%64d", i), pkttest.ID(uint16(i))))
			first := rng.IntN(2)
			see(b.Outbound(b.now, parts[first]), parts[first])
			see(b.Outbound(b.now, parts[1-first]), parts[1-first])
		case 6: // a reply, or the same from a stranger's port
			if len(left) == 0 {
				continue
			}
			h := wire.IPv4(append([]byte(nil), left[rng.IntN(len(left))]...))
			from, to := h.Src(), h.Dst()
			h.SetSrc(to)
			h.SetDst(from)
			if p := h.Protocol(); p == wire.ProtoTCP || p == wire.ProtoUDP {
				var ports [4]byte
				copy(ports[:], h[ip4Header:])
				copy(h[ip4Header:], ports[2:])
				copy(h[ip4Header+2:], ports[:2])
				h[ip4Header+1] += byte(rng.IntN(2))
			}
			pkttest.FixChecksums(h)
			see(b.Inbound(b.now, h), h)
		default:
			b.at(time.Duration(b.now) + time.Duration(rng.IntN(20_000))*time.Millisecond)
			for _, line := range b.sent() {
				say("emitted %s", line)
			}
		}
	}
	for s := range b.Sessions() {
		say("%+v", s)
	}
	s := b.Stats()
	s.Bytes = 0
	return append(lines, fmt.Sprintf("%+v %+v %+v", s, b.Frontends(), b.SharedPorts()))
}

// TestNothingDependsOnTheHashKey plays one script under several keys.
func TestNothingDependsOnTheHashKey(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	configs := map[string]func() (snat.Config, error){}
	for _, p := range presets() {
		configs[p.Name] = func() (snat.Config, error) {
			s := site(3, 1)
			s.Seed = 3
			return p.Configure(s)
		}
	}
	configs["preserved ports of an inventory"] = func() (snat.Config, error) {
		s := site(3, 2)
		c, err := preset.AWSNATGateway(s)
		sharedPorts(&c).Choice = snat.PreservePort
		return c, err
	}
	configs["random identifiers, fragments, few ports"] = func() (snat.Config, error) {
		s := site(3, 2)
		s.PortsPerInstance = 16
		c, err := preset.AzureLB(s)
		c.ICMP = snat.ICMP{Queries: true, RandomIDs: true, Errors: true}
		c.Fragments.Mode = snat.FragmentsVirtual
		return c, err
	}
	for name, configure := range configs {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, key := range []uint64{1, 2, 0, 0} {
				c, err := configure()
				require.NoError(t, err)
				c.HashKey = key
				if got := transcript(t, c); want == nil {
					want = got
				} else {
					require.Equal(t, len(want), len(got))
					for i := range want {
						require.Equal(t, want[i], got[i], "line %d under key %d", i, key)
					}
				}
			}
			require.Greater(t, len(want), pkttest.Operations(800, 2500, 25_000))
		})
	}
}
