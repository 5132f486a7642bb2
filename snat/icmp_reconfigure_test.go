package snat_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// grants replaces the ports of the first instance by runs of eight of both
// frontends.
func grants(c snat.Config, firsts ...uint16) snat.Config {
	inst := c.Instances[0]
	inst.Ports = nil
	for _, first := range firsts {
		inst.Ports = append(inst.Ports,
			snat.PortRange{Frontend: addr(frontend), First: first, Count: 8}, snat.PortRange{Frontend: addr(frontend6), First: first, Count: 8})
	}
	c.Instances = []snat.Instance{inst}
	return c
}

// Identifiers come and go with the ports of UDP; queries on those that stay go on,
// in a shard of another policy too, and errors about them pass.
func TestReconfigure_Queries(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := carrying(func(c *snat.Config) { c.CountTraffic = true })
		b := newBed(t, grants(c, firstPort))
		for id := range uint16(8) {
			b.forwards(flow.Inside, r.ping(r.a, r.s, 100+id, 1), r.ping(r.f, r.s, firstPort+id, 1))
		}
		b.drops(flow.Inside, r.ping(r.a, r.s, 200, 1), flow.ReasonPorts)

		next := grants(c, 2048, firstPort)
		next.Instances[0].Policy = &snat.Policy{IdleTimeout: time.Hour}
		change := b.becomes(next)
		assert.Equal(t, []snat.InstanceChange{{Name: "vm-a", Granted: 48}}, change.Instances, "8 of each protocol and family")
		b.forwards(flow.Inside, r.ping(r.a, r.s, 200, 1), r.ping(r.f, r.s, 2048, 1))
		b.forwards(flow.Outside, r.pong(r.s, r.f, firstPort+7, 1), r.pong(r.s, r.a, 107, 1))
		b.forwards(flow.Inside, r.ping(r.a, r.q, 107, 1), r.ping(r.f, r.q, firstPort+7, 1)) // one identifier for all
		b.forwards(flow.Outside, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, r.ping(r.f, r.s, firstPort+7, 1)),
			pkttest.ICMP(r.rx, r.a, r.exceeded, 0, 0, r.ping(r.a, r.s, 107, 1)))
		assert.Equal(t, snat.PoolStats{Is6: r.name == "v6", Protocol: snat.Query, Allocated: 16, Free: 7, Used: 9, PortUses: snat.PortUses{Active: 9}, Peak: 9}, b.pool(r.name == "v6", snat.Query))

		next = grants(c, 2048)
		next.ReclaimGrace = 10 * time.Second
		change = b.becomes(next)
		assert.Equal(t, []snat.InstanceChange{{Name: "vm-a", Reclaimed: 48, AwaitingRemoval: 8}}, change.Instances)
		b.forwards(flow.Outside, r.pong(r.s, r.f, firstPort, 1), r.pong(r.s, r.a, 100, 1))
		for id := range uint16(7) {
			b.forwards(flow.Inside, r.ping(r.b, r.s, 300+id, 1), r.ping(r.f, r.s, 2049+id, 1))
		}
		b.drops(flow.Inside, r.ping(r.b, r.s, 400, 1), flow.ReasonPorts)
		b.lazily(10 * time.Second)
		b.drops(flow.Outside, r.pong(r.s, r.f, firstPort, 1), flow.ReasonNoFlow)
		b.forwards(flow.Outside, r.pong(r.s, r.f, 2048, 1), r.pong(r.s, r.a, 200, 1))
		assert.Equal(t, uint64(9), b.Stats().Cut[snat.CutReclaimed])

		last := b.Connections()[2]
		assert.Equal(t, snat.ConnectionStats{Protocol: snat.Query, Successful: 17, Failed: 2, Active: 8}, last)
		var traffic snat.FrontendTraffic
		for _, row := range b.Traffic() {
			if row.Frontend == netip.MustParseAddr(r.f) && row.Protocol == snat.Query {
				traffic = row
			}
		}
		assert.Equal(t, uint64(17), traffic.Outbound.Packets)
		assert.Equal(t, uint64(4), traffic.Inbound.Packets, "an error too")
	})
}

// ICMP is what it was made, whatever else changes.
func TestReconfigure_ICMPIsFixed(t *testing.T) {
	c := carrying(func(c *snat.Config) { c.ICMP.RouterAddrs = []netip.Addr{addr("10.0.0.1")} })
	b := newBed(t, c)
	b.becomes(c)
	c.ICMP.RouterAddrs[0] = addr("10.0.0.2") // the NAT has a copy
	_, err := b.Reconfigure(b.now, c)
	require.ErrorIs(t, err, snat.ErrFixed)
	c.ICMP.RouterAddrs[0] = addr("10.0.0.1")
	c.ICMP.Queries, c.ICMP.Timestamps = false, false
	_, err = b.Reconfigure(b.now, c)
	require.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, "ICMP {Queries:false")
}

// While ports await removal a router counts each packet down once, one at a time
// and in batches, and answers those that have come too far.
func TestReconfigure_Router(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := carrying(func(c *snat.Config) { c.ICMP.TTL = snat.TTLRouter })
		c.ReclaimGrace = time.Hour
		b := newBed(t, grants(c, 2048, firstPort))
		for id := range uint16(16) {
			b.out(r.ping(r.a, r.s, id, 1))
		}
		b.becomes(grants(c, firstPort))
		require.Equal(t, 8, b.pool(r.name == "v6", snat.Query).AwaitingRemoval)
		at := 8
		if r.name == "v6" {
			at = 7
		}
		for _, proto := range []string{"udp", "query"} {
			one, two := r.conversations()[proto](r.a, 3, r.s), r.conversations()[proto](r.a, 3, r.s)
			hops := one[at]
			require.Equal(t, flow.Forward, b.Outbound(b.now, one).Action)
			assert.Equal(t, hops-1, one[at])
			v := make([]flow.Verdict, 1)
			b.OutboundBatch(b.now, [][]byte{two}, v)
			assert.Equal(t, one, two)
			// The lowest TTL, with a checksum as true as before.
			late := r.conversations()[proto](r.a, 3, r.s)
			if late[at] = 1; r.name == "v4" {
				binary.BigEndian.PutUint16(late[10:], binary.BigEndian.Uint16(late[10:])+uint16(hops-1)<<8)
			}
			again := clone(late)
			b.drops(flow.Inside, late, flow.ReasonTTL)
			b.OutboundBatch(b.now, [][]byte{again}, v)
			assert.Equal(t, flow.ReasonTTL, v[0].Reason)
		}
		b.at(time.Second)
		assert.Len(t, b.sent(), 4)
	})
}

// Queries of several goroutines go on while another reconfigures.
func TestReconfigure_QueriesConcurrently(t *testing.T) {
	c := carrying(func(c *snat.Config) { c.ICMP.TTL, c.ICMP.RandomIDs = snat.TTLRouter, true })
	c.ReclaimGrace = time.Millisecond
	small, large := grants(c, firstPort), grants(c, 2048, firstPort)
	large.Instances = append([]snat.Instance{vm("guest", "10.1.0.6", ports(4096, 8))}, large.Instances...)
	n, err := snat.New(large)
	require.NoError(t, err)
	defer n.Close()
	r := realms[0]
	done := make(chan struct{})
	var clock, rounds atomic.Int64
	now := func() flow.Time { return flow.Time(clock.Load()) }
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			v := make([]flow.Verdict, 4)
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				var out, in [][]byte
				for k := range 4 {
					out = append(out, r.ping(r.a, r.s, uint16(i+4*g+k)%20, 1))
				}
				out[3] = r.ping("10.1.0.6", r.s, 1, 1)
				n.Outbound(now(), clone(out[0]))
				n.OutboundBatch(now(), out, v)
				for k := range out {
					if v[k].Action == flow.Forward {
						id := binary.BigEndian.Uint16(out[k][r.header+4:])
						in = append(in, r.pong(r.s, r.f, id, 1), pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, r.ping(r.f, r.s, id, 1)))
					}
				}
				n.InboundBatch(now(), in, make([]flow.Verdict, len(in)))
				rounds.Add(1)
			}
		})
	}
	for i := range 200 {
		next := small
		if i%2 == 1 {
			next = large
		}
		clock.Add(int64(2 * time.Millisecond)) // longer than the grace
		_, err := n.Reconfigure(now(), next)
		assert.NoError(t, err)
		n.Stats()
		n.Connections()
		for k := rounds.Load(); rounds.Load() < k+3; { // something happens in between
			runtime.Gosched()
		}
	}
	close(done)
	wg.Wait()
	n.Check()
	assert.NotZero(t, n.Stats().Cut[snat.CutReclaimed])
}
