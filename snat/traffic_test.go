package snat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// carries requires that what is forwarded is what frontends count as traffic.
func (b *bed) carries() {
	b.t.Helper()
	var sum [2]uint64
	for _, row := range b.Traffic() {
		sum[flow.Inside] += row.Outbound.Packets
		sum[flow.Outside] += row.Inbound.Packets
	}
	s := b.Stats()
	assert.Equal(b.t, [2]uint64{s.Outbound.Forwarded, s.Inbound.Forwarded}, sum, "what is forwarded is traffic")
}

// Fragments are traffic, the first and the others, those that had to wait too.
func TestFragmentsAreTraffic(t *testing.T) {
	for name, h := range byFamily {
		for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}} {
			t.Run(name, func(t *testing.T) {
				c := virtual(8)
				c.CountTraffic = true
				b := newBed(t, c)
				data := datagramOf(h, 24)
				all := [][]byte{cut(h, 7, data, 0, 8, true), cut(h, 7, data, 8, 16, true), cut(h, 7, data, 16, 24, false)}
				size := 0
				for _, i := range order {
					size += len(all[i])
					b.out(all[i])
				}
				b.at(0)
				require.NotContains(t, b.opens("udp", socket(h.a, 5000), socket(h.s, 53)), "drop")
				whole := len(pkttest.UDP(socket(h.a, 5000), socket(h.s, 53), "query"))
				b.carries()
				var got snat.TrafficCount
				for _, row := range b.Traffic() {
					if row.Frontend == netip.MustParseAddr(h.f) && row.Protocol == snat.UDP {
						got = row.Outbound
					}
				}
				assert.Equal(t, snat.TrafficCount{Packets: 4, Bytes: uint64(size + whole)}, got)
			})
		}
	}
}
