package snat_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The frontends of sharedFrontends.
var frontendA, frontendB = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("203.0.113.11")

// sharedFrontends is a configuration of n instances that have 8 TCP and 8 UDP ports
// on each of two frontends.
func sharedFrontends(n int) snat.Config {
	c := snat.Config{Dataplane: snat.Dataplane{CountTraffic: true}}
	for i := range n {
		first := uint16(1024 + 8*i)
		c.Instances = append(c.Instances, snat.Instance{
			Name: fmt.Sprintf("vm%d", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(4 + i)})},
			Ports: []snat.PortRange{{Frontend: frontendA, First: first, Count: 8}, {Frontend: frontendB, First: first, Count: 8}},
		})
	}
	return c
}

func shares(n *snat.NAT, instance int, proto snat.Protocol) (rows []snat.ShareStats) {
	for s := range n.Shares() {
		if s.Instance == instance && s.Protocol == proto {
			rows = append(rows, s)
		}
	}
	return rows
}

// By hand: 17 flows to one destination need 16 ports of two frontends, and fail
// once.
func TestSharesOfTwoFrontends(t *testing.T) {
	b := newBed(t, sharedFrontends(2))
	for i := range 17 {
		b.opens("tcp", fmt.Sprintf("10.0.0.4:%d", 5000+i), "198.51.100.7:443")
	}
	full := snat.ShareStats{Name: "vm0", Protocol: snat.TCP, Frontend: frontendA, Allocated: 8, Used: 8, PortUses: snat.PortUses{Active: 8}, Created: 8}
	last := full
	last.Frontend, last.Failed = frontendB, 1
	assert.Equal(t, []snat.ShareStats{full, last}, shares(b.NAT, 0, snat.TCP))
	idle := snat.ShareStats{Instance: 1, Name: "vm1", Protocol: snat.TCP, Frontend: frontendA, Allocated: 8, Free: 8}
	idle2 := idle
	idle2.Frontend = frontendB
	assert.Equal(t, []snat.ShareStats{idle, idle2}, shares(b.NAT, 1, snat.TCP))

	// A connection that the remote resets keeps its port from it for 15 s.
	b.remotely("198.51.100.7:443", "203.0.113.11:1024", "RA", 1, 1001)
	last.Active, last.HeldRST = 7, 1
	assert.Equal(t, []snat.ShareStats{full, last}, shares(b.NAT, 0, snat.TCP))
	b.at(15 * time.Second)
	last.HeldRST, last.Used, last.Free = 0, 7, 1
	assert.Equal(t, []snat.ShareStats{full, last}, shares(b.NAT, 0, snat.TCP))
}

func TestStrandedPorts(t *testing.T) {
	b := newBed(t, sharedFrontends(3))
	for i := range 16 {
		b.opens("udp", fmt.Sprintf("10.0.0.4:%d", 5000+i), "198.51.100.7:53")
	}
	assert.Empty(t, b.Stranded(), "nobody was refused")
	b.opens("udp", "10.0.0.4:6000", "198.51.100.7:53")
	b.opens("udp", "10.0.0.5:6000", "198.51.100.7:53")
	assert.Equal(t, []snat.StrandedPorts{{Name: "vm0", Protocol: snat.UDP, Failed: 1, FreeElsewhere: 15 + 16}}, b.Stranded())

	alone := newBed(t, sharedFrontends(1))
	for i := range 17 {
		alone.opens("udp", fmt.Sprintf("10.0.0.4:%d", 5000+i), "198.51.100.7:53")
	}
	assert.Empty(t, alone.Stranded(), "no port belongs to anybody else")
}

func TestFailuresWithoutPorts(t *testing.T) {
	c := sharedFrontends(1)
	c.Instances[0].Ports = nil
	b := newBed(t, c)
	require.Equal(t, "drop "+flow.ReasonNoOutbound.String(), b.out(pkttest.UDP("10.0.0.4:5000", "198.51.100.7:53", "query")))
	assert.Equal(t, []snat.ShareStats{{Name: "vm0", Protocol: snat.UDP, Failed: 1}}, shares(b.NAT, 0, snat.UDP))
}

func TestTrafficIsOffUnlessConfigured(t *testing.T) {
	c := sharedFrontends(1)
	c.CountTraffic = false
	b := newBed(t, c)
	b.dials("10.0.0.4:5000", "198.51.100.7:443")
	assert.Nil(t, b.Traffic())
}

// Random packets of both families through both kinds of doors: traffic is what the
// test has counted, and the shares agree with Stats, Frontends and Instances.
func TestCountsOfRandomTraffic(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := sharedFrontends(4)
	frontend6 := netip.MustParseAddr("2001:db8:f::10")
	for i := range c.Instances {
		c.Instances[i].Addrs = append(c.Instances[i].Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%d", 4+i)))
		c.Instances[i].Ports = append(c.Instances[i].Ports, snat.PortRange{Frontend: frontend6, First: uint16(1024 + 8*i), Count: 8})
	}
	b := newBed(t, c)

	type row struct {
		frontend netip.Addr
		proto    snat.Protocol
	}
	want := map[row]*snat.FrontendTraffic{}
	for _, f := range []netip.Addr{frontendA, frontendB, frontend6} {
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			want[row{f, p}] = &snat.FrontendTraffic{Frontend: f, Protocol: p}
		}
	}
	addrOf := func(p []byte, src bool) netip.Addr {
		at, n := 16, 4
		if p[0]>>4 == 6 {
			at, n = 24, 16
		}
		if src {
			at -= n
		}
		a, _ := netip.AddrFromSlice(p[at : at+n])
		return a
	}
	count := func(frontend netip.Addr, p []byte, from flow.Side) {
		l4, proto := 20, p[9]
		if p[0]>>4 == 6 {
			l4, proto = 40, p[6]
		}
		k := row{frontend, snat.UDP}
		if proto == 6 {
			k.proto = snat.TCP
		}
		c := &want[k].Outbound
		if from == flow.Outside {
			c = &want[k].Inbound
		}
		c.Packets++
		c.Bytes += uint64(len(p))
		if proto == 6 && p[l4+13]&0x12 == 2 {
			c.SYNs++
		}
	}
	flags := []string{"S", "A", "FA", "R", "SA"}
	random := func(src, dst string) []byte {
		if r.IntN(2) == 0 {
			return pkttest.UDP(src, dst, "0123456789"[:r.IntN(10)])
		}
		return pkttest.TCP(src, dst, pkttest.TCPFlags(flags[r.IntN(len(flags))]), pkttest.Seq(uint32(r.IntN(2000))), pkttest.Ack(uint32(r.IntN(2000))))
	}
	pick := func(v4, v6 string, port int, is6 bool) string {
		if is6 {
			return fmt.Sprintf("[%s]:%d", v6, port)
		}
		return fmt.Sprintf("%s:%d", v4, port)
	}
	verdicts := make([]flow.Verdict, 8)
	for step := range 6000 {
		b.lazily(time.Duration(step) * 200 * time.Millisecond)
		out, is6 := r.IntN(2) == 0, r.IntN(3) == 0
		pkts := make([][]byte, 1+r.IntN(8))
		before := make([]netip.Addr, len(pkts))
		for i := range pkts {
			remote := pick("198.51.100.7", "2001:db8:5::7", 443+r.IntN(2), is6)
			if out {
				pkts[i] = random(pick(fmt.Sprintf("10.0.0.%d", 4+r.IntN(4)), fmt.Sprintf("fd00::%d", 4+r.IntN(4)), 5000+r.IntN(30), is6), remote)
			} else {
				pkts[i] = random(remote, pick(fmt.Sprintf("203.0.113.%d", 10+r.IntN(2)), "2001:db8:f::10", 1024+r.IntN(40), is6))
				before[i] = addrOf(pkts[i], false)
			}
		}
		switch {
		case len(pkts) > 2 && out:
			b.OutboundBatch(b.now, pkts, verdicts)
		case len(pkts) > 2:
			b.InboundBatch(b.now, pkts, verdicts)
		default:
			for i, p := range pkts {
				if out {
					verdicts[i] = b.Outbound(b.now, p)
				} else {
					verdicts[i] = b.Inbound(b.now, p)
				}
			}
		}
		for i, p := range pkts {
			if verdicts[i].Action != flow.Forward {
				continue
			}
			if out {
				count(addrOf(p, true), p, flow.Inside)
			} else {
				count(before[i], p, flow.Outside)
			}
		}
	}
	b.at(6000 * 200 * time.Millisecond)

	got := b.Traffic()
	require.Len(t, got, len(want))
	var forwarded [2]uint64
	for _, g := range got {
		assert.Equal(t, *want[row{g.Frontend, g.Protocol}], g)
		forwarded[0] += g.Outbound.Packets
		forwarded[1] += g.Inbound.Packets
	}
	s := b.Stats()
	assert.Equal(t, [2]uint64{s.Outbound.Forwarded, s.Inbound.Forwarded}, forwarded)
	require.NotZero(t, forwarded[1])

	tcp, udp := b.Connections()[0], b.Connections()[1]
	assert.Equal(t, snat.ConnectionStats{
		Protocol: snat.TCP, Successful: s.ConnectionsSuccessful - udp.Successful,
		Failed: s.ConnectionsFailed - udp.Failed, Active: s.SessionsActive - udp.Active,
	}, tcp)
	assert.NotZero(t, tcp.Successful)
	assert.NotZero(t, udp.Failed)
	active := 0
	for s := range b.Sessions() {
		if s.Proto == 17 {
			active++
		}
	}
	assert.Equal(t, active, udp.Active)

	var created, failed uint64
	used := map[row]int{}
	for s := range b.Shares() {
		created += s.Created
		failed += s.Failed
		used[row{s.Frontend, s.Protocol}] += s.Used
		require.Equal(t, s.Allocated, s.Free+s.Used)
		require.Equal(t, s.Used, s.Total())
	}
	assert.Equal(t, s.ConnectionsSuccessful, created)
	assert.Equal(t, s.ConnectionsFailed, failed)
	require.NotZero(t, failed)
	for _, f := range b.Frontends() {
		assert.Equal(t, f.Used, used[row{f.Frontend, f.Protocol}])
	}
	for i, inst := range b.Instances() {
		for _, p := range inst.Pools {
			sum := snat.PoolStats{Is6: p.Is6, Protocol: p.Protocol, Peak: p.Peak}
			for s := range b.Shares() {
				if s.Instance == i && s.Is6 == p.Is6 && s.Protocol == p.Protocol {
					sum.Allocated, sum.Free, sum.Used = sum.Allocated+s.Allocated, sum.Free+s.Free, sum.Used+s.Used
					sum.PortUses = sum.Add(s.PortUses)
				}
			}
			assert.Equal(t, p, sum)
		}
	}
}

func TestCountingTrafficAllocatesNothing(t *testing.T) {
	b := newBed(t, sharedFrontends(1))
	b.dials("10.0.0.4:5000", "198.51.100.7:443")
	p := pkttest.TCP("10.0.0.4:5000", "198.51.100.7:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
	scratch := slices.Clone(p)
	pkts, verdicts := [][]byte{scratch}, make([]flow.Verdict, 1)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		copy(scratch, p)
		b.Outbound(b.now, scratch)
		copy(scratch, p)
		b.OutboundBatch(b.now, pkts, verdicts)
	}))
	require.Equal(t, flow.Forward, verdicts[0].Action)
	assert.Equal(t, uint16(1024), binary.BigEndian.Uint16(scratch[20:]))
}

// Observers may read at any moment while traffic runs.
func TestSharesAndTrafficWhileTrafficRuns(t *testing.T) {
	b := newBed(t, sharedFrontends(4))
	done := make(chan struct{})
	for g := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 3000 {
				src := fmt.Sprintf("10.0.0.%d:%d", 4+2*g+i%2, 5000+i%40)
				b.Outbound(flow.At(time.Duration(i)*time.Second), pkttest.UDP(src, "198.51.100.7:53", "query"))
			}
		}()
	}
	for running := 2; running > 0; {
		select {
		case <-done:
			running--
		default:
		}
		for s := range b.Shares() {
			if s.Allocated != s.Free+s.Used || s.Used != s.Total() {
				t.Fatalf("%+v does not add up", s)
			}
		}
		b.Stranded()
		b.Traffic()
	}
	var packets uint64
	for _, f := range b.Traffic() {
		packets += f.Outbound.Packets
	}
	assert.Equal(t, b.Stats().Outbound.Forwarded, packets)
	assert.NotZero(t, packets)
}

// A reconfiguration keeps what has been counted, by frontend, and shows ports that
// are reclaimed but in use as a row of their own.
func TestSharesSurviveReconfiguration(t *testing.T) {
	c := sharedFrontends(2)
	c.ReclaimGrace = time.Minute
	b := newBed(t, c)
	for i := range 10 {
		b.opens("udp", fmt.Sprintf("10.0.0.4:%d", 5000+i), "198.51.100.7:53")
	}
	traffic := b.Traffic()
	require.Equal(t, uint64(8), traffic[1].Outbound.Packets)

	c.Instances[0].Ports = c.Instances[0].Ports[1:]
	_, err := b.Reconfigure(b.now, c)
	require.NoError(t, err)
	b.Check()
	kept := snat.ShareStats{Name: "vm0", Protocol: snat.UDP, Frontend: frontendB, Allocated: 8, Free: 6, Used: 2, PortUses: snat.PortUses{Active: 2}, Created: 2}
	leaving := snat.ShareStats{Name: "vm0", Protocol: snat.UDP, Frontend: frontendA, AwaitingRemoval: true, Allocated: 8, Used: 8, PortUses: snat.PortUses{Active: 8}}
	past := snat.ShareStats{Name: "vm0", Protocol: snat.UDP, Frontend: frontendA, Created: 8}
	assert.Equal(t, []snat.ShareStats{kept, leaving, past}, shares(b.NAT, 0, snat.UDP))
	assert.ElementsMatch(t, traffic, b.Traffic())

	b.at(time.Minute)
	assert.Equal(t, []snat.ShareStats{kept, past}, shares(b.NAT, 0, snat.UDP))
	for i := range 7 {
		b.opens("udp", fmt.Sprintf("10.0.0.4:%d", 6000+i), "198.51.100.7:53")
	}
	kept.Free, kept.Used, kept.Active, kept.Created, kept.Failed = 0, 8, 8, 8, 1
	assert.Equal(t, []snat.ShareStats{kept, past}, shares(b.NAT, 0, snat.UDP))

	_, err = b.Reconfigure(b.now, sharedFrontends(2))
	require.NoError(t, err)
	b.Check()
	past.Allocated, past.Free = 8, 8
	assert.Equal(t, []snat.ShareStats{past, kept}, shares(b.NAT, 0, snat.UDP), "the frontend is back, with its counts")
	b.opens("udp", "10.0.0.4:7000", "198.51.100.7:53")
	assert.Equal(t, uint64(8+8+1), b.Traffic()[1].Outbound.Packets+b.Traffic()[3].Outbound.Packets)

	c.CountTraffic = false
	_, err = b.Reconfigure(b.now, c)
	require.NoError(t, err)
	b.opens("udp", "10.0.0.5:7000", "198.51.100.7:53")
	assert.Nil(t, b.Traffic())
}
