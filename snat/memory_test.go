package snat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// A NAT without flows takes little memory, and one with a flow not much more: what its ports are used
// for, of which it takes 2 bytes for each of a protocol's from the first flow on.
func TestSmallNAT(t *testing.T) {
	for _, p := range preset.All() {
		c, err := p.Configure(site(1, 1))
		require.NoError(t, err)
		b := newBed(t, c)
		empty, uses := b.Stats().Bytes, 0
		for _, s := range b.Instances() {
			for _, pool := range s.Pools {
				if !pool.Is6 && pool.Protocol != snat.Query {
					uses += 2 * pool.Allocated
				}
			}
		}
		b.out(pkttest.TCP("10.0.0.0:1", "198.51.100.1:443", pkttest.TCPFlags("S")))
		b.out(pkttest.UDP("10.0.0.0:1", "198.51.100.1:443", ""))
		require.Equal(t, 2, b.Stats().SessionsActive, p.Name)
		assert.LessOrEqual(t, b.Stats().Bytes-empty, 16<<10+uses, p.Name)
	}
}

// New takes little memory for a NAT of one instance, however many shards there may be, and for its
// ports no more than who owns them.
func TestNewAllocatesLittle(t *testing.T) {
	c := snat.Config{Instances: []snat.Instance{{
		Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 1024}},
	}}}
	allocated := func() (bytes uint64) {
		bytes = 1 << 62
		for range 5 { // something else may allocate, too
			const count = 20
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range count {
				n, err := snat.New(c)
				require.NoError(t, err)
				runtime.KeepAlive(n)
			}
			runtime.ReadMemStats(&after)
			bytes = min(bytes, (after.TotalAlloc-before.TotalAlloc)/count)
		}
		return bytes
	}
	few := allocated()
	if !pkttest.Race {
		assert.LessOrEqual(t, few, uint64(24<<10))
	}
	c.Shards = 64
	assert.LessOrEqual(t, allocated(), few+8<<10, "64 shards")
	c.Shards, c.Instances[0].Ports[0].Count = 0, 64512
	assert.LessOrEqual(t, allocated(), few+2*(64<<10), "64,512 ports")
}

// The memory of a flood of sessions is given back when they are over.
func TestMemoryOfAFloodIsGivenBack(t *testing.T) {
	pkttest.OneGoroutine(t)
	c, err := preset.AzureLB(site(2, 1))
	require.NoError(t, err)
	for range 2 {
		b := newBed(t, c)
		b.seldom = true
		b.out(pkttest.TCP("10.0.0.0:1", "198.51.100.1:443", pkttest.TCPFlags("S")))
		before := b.Stats().Bytes
		pkt := pkttest.TCP("10.0.0.1:1", "198.51.100.1:443", pkttest.TCPFlags("S"))
		buf := make([]byte, len(pkt))
		const flows = 100_000
		for i := range flows {
			copy(buf, pkt)
			copy(buf[16:20], []byte{9, byte(i >> 16), byte(i >> 8), byte(i)})
			pkttest.FixChecksums(buf)
			require.Equal(t, flow.Forward, b.Outbound(0, buf).Action)
		}
		require.Greater(t, b.Stats().Bytes, flows*64)
		b.at(time.Hour)
		assert.Zero(t, b.Stats().SessionsActive)
		assert.LessOrEqual(t, b.Stats().Bytes-before, 300<<10)
	}
}

// Where there is no memory flows are refused, with a reason of its own, and nothing of
// them is left: each attempt that follows meets a translator that is as before. The
// invariants are checked throughout, with the build tag for it.
func TestNoMemory(t *testing.T) {
	pkttest.OneGoroutine(t)
	defer func() { slab.Fault = nil }()
	configs := closers(t)
	blocks := configs["cgn"]
	ownedPorts(&blocks).Allocation.Choice = snat.RandomPort
	ownedPorts(&blocks).Allocation.Quarantine = snat.Quarantine{}
	configs["port blocks without quarantine"] = blocks
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				refused := playWithoutMemory(t, c, seed)
				require.Positive(t, refused, "seed %d", seed)
			}
		})
	}
}

// playWithoutMemory plays traffic while every second wish for memory is refused, and
// returns how many packets were dropped for that.
func playWithoutMemory(t *testing.T, c snat.Config, seed uint64) (refused int) {
	rng := rand.New(rand.NewPCG(seed, 3))
	b := newBed(t, c)
	b.seldom = true
	slab.Fault = func() bool { return rng.IntN(2) == 0 }
	defer func() { slab.Fault = nil }()
	count := func(v flow.Verdict) {
		if v.Reason == flow.ReasonMemory {
			refused++
		}
	}
	host := c.Instances[0].Addrs
	for i := range 700 {
		src := fmt.Sprintf("10.0.0.%d:%d", rng.IntN(3), 1024+rng.IntN(4000))
		if len(host) > 0 && !host[0].IsUnspecified() && rng.IntN(2) == 0 {
			src = netip.AddrPortFrom(host[0], uint16(1024+rng.IntN(4000))).String()
		}
		dst := fmt.Sprintf("198.51.100.%d:%d", rng.IntN(3), 443+rng.IntN(2))
		for _, pkt := range [][]byte{
			pkttest.TCP(src, dst, pkttest.TCPFlags("S")), pkttest.UDP(src, dst, ""),
			pkttest.ICMPEcho(netip.MustParseAddrPort(src).Addr().String(), "198.51.100.1", uint16(rng.IntN(500)), 1),
		} {
			count(b.Outbound(b.now, pkt))
		}
		for _, part := range halves(pkttest.UDP(src, dst, fmt.Sprintf("%64d", i), pkttest.ID(uint16(i)))) {
			count(b.Outbound(b.now, part))
		}
		port := 1024 + rng.IntN(64)
		count(b.Inbound(b.now, pkttest.TCP("192.0.2.1:1", fmt.Sprint("203.0.113.10:", port), pkttest.TCPFlags("S"))))
		count(b.Inbound(b.now, pkttest.UDP(fmt.Sprint("192.0.2.1:", 1+i), fmt.Sprint("203.0.113.10:", port), "")))
		if i%70 == 69 {
			b.Check()
			if sharedOf(c) == nil && i%140 == 139 { // to other shards, and back
				other := c
				other.Instances = append([]snat.Instance(nil), c.Instances...)
				if policy := other.Policy; i%280 == 139 {
					policy.PickUp = !policy.PickUp
					other.Instances[0].Policy = &policy
				}
				_, err := b.Reconfigure(b.now, other)
				require.NoError(t, err)
				b.Check()
			}
			b.at(time.Duration(b.now) + time.Duration(rng.IntN(200))*time.Second)
		}
	}
	slab.Fault = nil
	s := b.Stats()
	require.Equal(t, s.SessionsCreated, s.SessionsEnded+uint64(s.SessionsActive))
	b.at(1000 * time.Hour)
	b.at(2000 * time.Hour)
	s = b.Stats()
	require.Zero(t, s.SessionsActive, "seed %d", seed)
	require.Equal(t, s.SessionsCreated, s.SessionsEnded)
	for _, f := range b.Frontends() {
		require.Zero(t, f.Used, "seed %d: %+v", seed, f)
	}
	require.Empty(t, b.Subscribers())
	require.Empty(t, b.Blocks())
	require.Zero(t, s.Fragments.Datagrams+s.Fragments.Queued)
	return refused
}
