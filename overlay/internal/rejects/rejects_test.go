package rejects_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/rejects"
)

func TestAnswersQuoteThePacket(t *testing.T) {
	for _, tt := range []struct {
		src, dst, node string
		most           int
	}{
		{"10.244.0.2:5000", "10.0.0.9:80", "10.224.0.4", 576},
		{"[fd00::2]:5000", "[fd00:1::9]:80", "fd00:9::4", 1280},
	} {
		for _, n := range []int{0, 100, 3000} {
			var (
				o    rejects.Outbox
				p    wire.Packet
				sent []flow.Emission
			)
			pkt := pkttest.UDP(tt.src, tt.dst, string(make([]byte, n)))
			require.Equal(t, wire.OK, wire.Parse(pkt, &p))
			node := netip.MustParseAddr(tt.node)
			o.Add(7, 3, node, flow.Inside, &p)
			at, ok := o.NextDeadline()
			assert.True(t, ok)
			assert.Equal(t, flow.Time(7), at)
			o.Advance(func(e flow.Emission) { sent = append(sent, e) })
			require.Len(t, sent, 1)
			e := sent[0]
			assert.Equal(t, []any{flow.Time(7), flow.Inside, uint32(3)}, []any{e.At, e.To, e.Instance})
			pkttest.Check(t, e.Packet, pkttest.Src(tt.node), pkttest.Dst(netip.MustParseAddrPort(tt.src).Addr().String()), pkttest.ChecksumsOK())
			assert.LessOrEqual(t, len(e.Packet), tt.most)
			quoted := e.Packet[len(e.Packet)-min(len(pkt), tt.most-28-20*(int(e.Packet[0]>>4)-4)/2):]
			assert.Equal(t, pkt[:len(quoted)], quoted)
			var made wire.Packet
			require.Equal(t, wire.OK, wire.Parse(e.Packet, &made))
			kind := e.Packet[made.L4 : made.L4+2]
			want := []byte{3, 3}
			if node.Is6() {
				want = []byte{1, 4}
			}
			assert.Equal(t, want, kind)
		}
	}
}

func TestAnswersAreLimitedByNode(t *testing.T) {
	var (
		o      rejects.Outbox
		p      wire.Packet
		notice flow.Notice
	)
	o.Notice = &notice
	require.Equal(t, wire.OK, wire.Parse(pkttest.TCP("10.244.0.2:5000", "10.0.0.9:80", pkttest.SYN), &p))
	ask := func(now flow.Time, node uint32, n int) {
		for range n {
			o.Add(now, node, netip.MustParseAddr("10.224.0.4"), flow.Inside, &p)
		}
	}
	ask(0, 0, 60)
	assert.True(t, notice.Raised())
	ask(0, 1, 1)
	made, suppressed := o.Counts()
	assert.Equal(t, []uint64{51, 10}, []uint64{made, suppressed})
	ask(flow.Time(10*time.Millisecond), 0, 20)
	made, suppressed = o.Counts()
	assert.Equal(t, []uint64{61, 20}, []uint64{made, suppressed}, "one each millisecond")
	o.Advance(nil)
	_, ok := o.NextDeadline()
	assert.False(t, ok)
}
