package snat_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// bed is a NAT on a bench, with a clock and a tray for what it emits. Times in
// it are Azure's defaults unless a test changes them.
type bed struct {
	*snat.NAT
	t       testing.TB
	now     flow.Time
	emitted []flow.Emission // with packets of their own
	seldom  bool            // do not check invariants after each packet
}

// oneVM is a configuration of one instance with a number of ports, the same for
// both families and protocols.
func oneVM(ports int) snat.Config {
	return snat.Config{Instances: []snat.Instance{{
		Name:  "vm-a",
		Addrs: []netip.Addr{addr(vmA), addr(vmA6)},
		Ports: []snat.PortRange{
			{Frontend: addr(frontend), First: firstPort, Count: ports},
			{Frontend: addr(frontend6), First: firstPort, Count: ports},
		},
	}}}
}

func newBed(t testing.TB, c snat.Config) *bed {
	t.Helper()
	n, err := snat.New(c)
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return &bed{NAT: n, t: t}
}

// at sets the clock and advances the NAT to it.
func (b *bed) at(d time.Duration) {
	b.now = flow.At(d)
	b.Advance(b.now, func(e flow.Emission) {
		e.Packet = append([]byte(nil), e.Packet...)
		b.emitted = append(b.emitted, e)
	})
	b.Check()
}

// lazily sets the clock and advances nothing.
func (b *bed) lazily(d time.Duration) { b.now = flow.At(d) }

// sent takes what was emitted off the tray.
func (b *bed) sent() (lines []string) {
	for _, e := range b.emitted {
		lines = append(lines, fmt.Sprintf("%v %v %s", e.At, e.To, pkttest.String(e.Packet)))
	}
	b.emitted = nil
	return lines
}

// verdict describes a verdict and what became of the packet.
func verdict(v flow.Verdict, pkt []byte) string {
	switch v.Action {
	case flow.Forward:
		return pkttest.String(pkt)
	case flow.Bypass:
		return "bypass " + pkttest.String(pkt)
	case flow.Queued:
		return "queued"
	}
	return "drop " + v.Reason.String()
}

// out sends a packet from the inside and describes what became of it.
func (b *bed) out(pkt []byte) string {
	s := verdict(b.Outbound(b.now, pkt), pkt)
	if !b.seldom {
		b.Check()
	}
	return s
}

// in sends a packet from the outside and describes what became of it.
func (b *bed) in(pkt []byte) string {
	s := verdict(b.Inbound(b.now, pkt), pkt)
	if !b.seldom {
		b.Check()
	}
	return s
}

// source returns the source of a packet that out or in has described, or the
// whole description of a drop.
func source(s string) string {
	if f := strings.Fields(s); f[0] != "drop" {
		return f[1]
	}
	return s
}

// destination is source for the other end.
func destination(s string) string {
	if f := strings.Fields(s); f[0] != "drop" {
		return f[3]
	}
	return s
}

// opens sends the first packet of a flow, a SYN or a datagram, and returns the
// source it leaves with, or "drop" and the reason.
func (b *bed) opens(proto, src, dst string) string {
	if proto == "udp" {
		return source(b.out(pkttest.UDP(src, dst, "query")))
	}
	return source(b.out(pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1000))))
}

// dials establishes a TCP connection, the inside counting from 1000 and the
// remote from 5000, and returns its outside end.
func (b *bed) dials(src, dst string) string {
	b.t.Helper()
	outside := b.opens("tcp", src, dst)
	require.NotContains(b.t, outside, "drop")
	b.in(pkttest.TCP(dst, outside, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001)))
	b.out(pkttest.TCP(src, dst, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))
	return outside
}

// remotely sends a segment of the remote of a dialled connection.
func (b *bed) remotely(src, outside, flags string, seq, ack uint32) string {
	return b.in(pkttest.TCP(src, outside, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack)))
}

// locally sends a segment of the inside of a dialled connection.
func (b *bed) locally(src, dst, flags string, seq, ack uint32) string {
	return b.out(pkttest.TCP(src, dst, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack)))
}

// socket returns an address and port as text.
func socket(a string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port)).String()
}

// prefixes parses a list of prefixes.
func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// pool returns the use of the first instance's ports.
func (b *bed) pool(is6 bool, proto snat.Protocol) snat.PoolStats {
	for _, inst := range b.Instances() {
		for _, p := range inst.Pools {
			if p.Is6 == is6 && p.Protocol == proto {
				require.Equal(b.t, p.Allocated, p.Free+p.Used, "allocated = free + used + held")
				return p
			}
		}
		break
	}
	b.t.Fatalf("the first instance has no %d ports", proto)
	return snat.PoolStats{}
}

// ownedPorts returns what c says of ports that instances own, to be changed. It is c's
// alone, whatever other configurations had it before.
func ownedPorts(c *snat.Config) *snat.Owned {
	o := ownedOf(*c)
	c.Ports = &o
	return &o
}

// ownedOf returns what c says of ports that instances own.
func ownedOf(c snat.Config) snat.Owned {
	if o, ok := c.Ports.(*snat.Owned); ok {
		return *o
	}
	return snat.Owned{}
}

// sharedPorts returns what c says of ports that all instances share, to be changed.
// It is c's alone, whatever other configurations had it before.
func sharedPorts(c *snat.Config) *snat.Shared {
	s := *c.Ports.(*snat.Shared)
	c.Ports = &s
	return &s
}

// sharedOf returns what c says of ports that all instances share, or nil.
func sharedOf(c snat.Config) *snat.Shared {
	s, _ := c.Ports.(*snat.Shared)
	return s
}
