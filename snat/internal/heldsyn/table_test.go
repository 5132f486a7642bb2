package heldsyn

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

const wait = 6 * time.Second

// bed is a table with its outbox, and what that has emitted.
type bed struct {
	*Table
	notice flow.Notice
	outbox icmp.Outbox
}

func newBed(max int) *bed {
	b := new(bed)
	b.outbox.Init(&b.notice, [2]bool{}, 1000, 1000)
	b.Table = New(max, wait, &b.outbox, &b.notice)
	return b
}

// told advances to a time and returns what the outside is told meanwhile.
func (b *bed) told(now flow.Time) (all []flow.Emission) {
	b.Advance(now)
	b.outbox.Advance(func(e flow.Emission) { all = append(all, e) })
	return all
}

func (b *bed) take(t *testing.T, now flow.Time, pkt []byte) {
	t.Helper()
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkt, &p))
	b.Hold(now, &p)
}

func second(n float64) flow.Time { return flow.At(time.Duration(n * float64(time.Second))) }

func TestHold(t *testing.T) {
	for _, f := range []struct {
		name, remote, outside string
		typ, code             byte // of the error: port unreachable
		at                    int  // of them in a packet
	}{
		{"IPv4", "192.0.2.9:443", "198.51.100.1:1024", 3, 3, 20},
		{"IPv6", "[2001:db8::9]:443", "[2001:db8:f::1]:1024", 1, 4, 40},
	} {
		t.Run(f.name, func(t *testing.T) {
			b := newBed(2)
			syn := pkttest.TCP(f.remote, f.outside, pkttest.TCPFlags("S"))
			b.take(t, second(1), syn)
			assert.True(t, b.notice.Raised(), "there is a deadline where there was none")
			b.take(t, second(4), syn)
			at, ok := b.NextDeadline()
			assert.True(t, ok)
			assert.Equal(t, second(7), at, "the same SYN again changes nothing")
			assert.Empty(t, b.told(second(6.999)))
			all := b.told(second(7))
			require.Len(t, all, 1)
			assert.Equal(t, second(7), all[0].At)
			assert.Equal(t, flow.Outside, all[0].To)
			assert.Equal(t, []byte{f.typ, f.code}, []byte(all[0].Packet[f.at:f.at+2]))
			assert.Equal(t, Stats{Expired: 1}, b.Stats())
			_, ok = b.NextDeadline()
			assert.False(t, ok)
		})
	}
}

func TestMatch(t *testing.T) {
	b := newBed(2)
	b.take(t, second(0), pkttest.TCP("192.0.2.9:443", "198.51.100.1:1024", pkttest.TCPFlags("S")))
	tuple := ports.Tuple{Proto: wire.ProtoTCP, Remote: [2]uint64{0xc0000209}, DestPort: 443}
	outside := [2]uint64{0xc6336401}
	b.Match(second(1), &tuple, outside, 1025)
	assert.Equal(t, 1, b.Stats().Held, "another connection")
	b.Match(second(1), &tuple, outside, 1024)
	assert.Equal(t, Stats{Matched: 1}, b.Stats())
	assert.Empty(t, b.told(second(60)))
}

func TestHoldOnlyWhatMayBegin(t *testing.T) {
	b := newBed(2)
	for name, pkt := range map[string][]byte{
		"UDP":     pkttest.UDP("192.0.2.9:443", "198.51.100.1:1024", ""),
		"SYN-ACK": pkttest.TCP("192.0.2.9:443", "198.51.100.1:1024", pkttest.TCPFlags("SA")),
		"RST":     pkttest.TCP("192.0.2.9:443", "198.51.100.1:1024", pkttest.TCPFlags("R")),
		"damaged": pkttest.TCP("192.0.2.9:443", "198.51.100.1:1024", pkttest.TCPFlags("S"), pkttest.BadChecksum()),
	} {
		b.take(t, second(0), pkt)
		assert.Zero(t, b.Stats().Held, name)
	}
}

func TestFull(t *testing.T) {
	b := newBed(2)
	for i, remote := range []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"} {
		b.take(t, second(float64(i)), pkttest.TCP(remote, "198.51.100.1:1024", pkttest.TCPFlags("S")))
	}
	assert.Equal(t, uint64(1), b.Stats().Forgotten)
	// The first is due, which makes room; and a time that goes back is not before it.
	b.take(t, second(6), pkttest.TCP("192.0.2.4:1", "198.51.100.1:1024", pkttest.TCPFlags("S")))
	b.take(t, second(5), pkttest.TCP("192.0.2.5:1", "198.51.100.1:1024", pkttest.TCPFlags("S")))
	assert.Equal(t, uint64(2), b.Stats().Forgotten)
	assert.Equal(t, 2, b.Stats().Held)
	var due []flow.Time
	for _, e := range b.told(second(60)) {
		due = append(due, e.At)
	}
	assert.Equal(t, []flow.Time{second(6), second(7), second(12)}, due)
}

func TestNone(t *testing.T) {
	var none *Table
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkttest.TCP("192.0.2.9:443", "198.51.100.1:1024", pkttest.TCPFlags("S")), &p))
	none.Hold(0, &p)
	none.Match(0, &ports.Tuple{Proto: wire.ProtoTCP}, [2]uint64{}, 0)
	none.Advance(second(60))
	assert.Zero(t, none.Stats())
	_, ok := none.NextDeadline()
	assert.False(t, ok)
}
