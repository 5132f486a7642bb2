package bench

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func TestNumbers(t *testing.T) {
	got, err := parseNumbers("64, 1500", 64, 1500)
	require.NoError(t, err)
	assert.Equal(t, []int{64, 1500}, got)
	for _, bad := range []string{"", "63", "1501", "64,,65", "x"} {
		_, err := parseNumbers(bad, 64, 1500)
		assert.ErrorContains(t, err, "is not a number from 64 to 1500", bad)
	}
}

// No two flows of an instance have the same source port.
func TestInsidePorts(t *testing.T) {
	seen := map[uint16]bool{0: true}
	for k := range portsPerInstance {
		assert.False(t, seen[insidePort(k)], "%d", k)
		seen[insidePort(k)] = true
	}
}

// A stream of Zipf's law gives the busiest flow far more than its share, and a few flows
// the most of it.
func TestZipf(t *testing.T) {
	c, hosts := config(4096, false)
	w := build(t, c, hosts, 4096, false)
	s := w.zipf(flow.Inside)
	counts, most := map[string]int{}, 0
	for i := range s.n {
		key := string(s.pkts[i*64+12 : i*64+24])
		counts[key]++
		most = max(most, counts[key])
	}
	assert.Greater(t, most, s.n/20)
	assert.Greater(t, len(counts), 100)
}

// The mixed workload keeps its shares, reuses ports for hundreds of rounds and loses no
// flow.
func TestMixed(t *testing.T) {
	m := newMixed(t, 2*portsPerInstance, [3]int{80, 10, 10})
	const batches = 5000
	for range batches {
		m.fill()
		m.w.nat.OutboundBatch(m.w.now, m.pkts, m.verdicts)
		m.w.nat.Advance(m.w.now, nil)
		forwarded(t, m.verdicts)
	}
	m.prove(t)
	assert.InDelta(t, batches*batch/10, m.opened, 2)
	assert.InDelta(t, batches*batch/10, m.shut, 2)
}

// A template with the sockets of a flow is what gopacket builds for it.
func TestTemplates(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		flags := uint8(rng.IntN(32))
		for is6, length := range [2]int{40, 60} {
			src, dst := randomSocket(rng, is6 == 1), randomSocket(rng, is6 == 1)
			want := pkttest.TCP(src.String(), dst.String(), segment(flags, 64-length)...)
			require.Equal(t, want, tcp(buffers(1)[0], src, dst, flags), "%v > %v, flags %x", src, dst, flags)
		}
	}
}

func randomSocket(rng *rand.Rand, is6 bool) netip.AddrPort {
	var a [16]byte
	for i := range a {
		a[i] = byte(rng.Uint32()) & byte(rng.Int32N(2)-1) // many zeros, and whole ones
	}
	addr := netip.AddrFrom4([4]byte(a[:4]))
	if is6 {
		addr = netip.AddrFrom16(a)
	}
	return netip.AddrPortFrom(addr, uint16(rng.Uint32()))
}
