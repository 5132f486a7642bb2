package traffic_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

func TestRowCountsByProtocolAndSide(t *testing.T) {
	var row traffic.Row
	for _, pkt := range [][]byte{
		pkttest.TCP("10.0.0.4:5000", "203.0.113.9:443", pkttest.TCPFlags("S")),
		pkttest.TCP("10.0.0.4:5000", "203.0.113.9:443", pkttest.TCPFlags("SA"), pkttest.Ack(1)),
		pkttest.ICMPEcho("10.0.0.4", "203.0.113.9", 7, 1),
	} {
		var p wire.Packet
		require.Equal(t, wire.OK, wire.Parse(pkt, &p))
		row.Packet(flow.Inside, &p)
	}
	row.Piece(flow.Outside, wire.ProtoUDP, 500)
	assert.Equal(t, traffic.Count{Packets: 2, Bytes: 80, SYNs: 1}, row.Counts[ports.TCPIndex][flow.Inside])
	assert.Equal(t, uint64(1), row.Counts[ports.QueryIndex][flow.Inside].Packets)
	assert.Equal(t, traffic.Count{Packets: 1, Bytes: 500}, row.Counts[ports.UDPIndex][flow.Outside])
	sum := row.Counts[ports.TCPIndex][flow.Inside]
	sum.Add(&row.Counts[ports.UDPIndex][flow.Outside])
	assert.Equal(t, traffic.Count{Packets: 3, Bytes: 580, SYNs: 1}, sum)
}

func TestFrontendsKeepTheirRows(t *testing.T) {
	f := func(s string) *ports.Frontend { return &ports.Frontend{Addr: netip.MustParseAddr(s)} }
	was := []*ports.Frontend{f("192.0.2.1"), f("192.0.2.2")}
	assert.Nil(t, traffic.Keep(was, nil, nil, 3, false), "nothing is counted")
	rows := traffic.Keep(was, nil, nil, 3, true)
	rows[1][2].Piece(flow.Inside, wire.ProtoUDP, 9)
	is := []*ports.Frontend{nil, was[1], f("192.0.2.3")}
	next := traffic.Keep(is, was, rows, 3, true)
	assert.Equal(t, uint64(9), next[1][2].Counts[ports.UDPIndex][flow.Inside].Bytes)
	assert.Len(t, next[2], 3)
	assert.Nil(t, next[0])
	again := traffic.Keep([]*ports.Frontend{nil, f("192.0.2.4")}, is, next, 3, true)
	assert.Zero(t, again[1][2].Counts[ports.UDPIndex][flow.Inside].Bytes, "of another frontend at its index")
	assert.Nil(t, traffic.Keep(is, was, rows, 3, false)[2], "new ones get none when counting has ended")
}
