package locality

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What the table says is what a walk over its prefixes says.
func TestTableIsItsPrefixes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var routes []snat.Route
		for range r.IntN(8) {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(3)), byte(r.IntN(256))})
			if r.IntN(3) == 0 {
				a = netip.AddrFrom16([16]byte{0: 0xfd, 1: byte(r.IntN(3)), 5: byte(r.IntN(3)), 15: byte(r.IntN(256))})
			}
			routes = append(routes, snat.Route{Prefix: netip.PrefixFrom(a, 6+r.IntN(27)).Masked()})
		}
		table := New(routes)
		has := func(a netip.Addr) bool {
			return slices.ContainsFunc(routes, func(r snat.Route) bool { return r.Prefix.Contains(a) })
		}
		for range 300 {
			b := [4]byte{byte(8 + r.IntN(4)), byte(r.IntN(5)), byte(r.IntN(3)), byte(r.IntN(256))}
			a := netip.AddrFrom4(b)
			require.Equal(t, has(a), table.Has4(binary.BigEndian.Uint32(b[:])), "%v in %v", a, routes)
			pkt := make([]byte, 20)
			pkt[0] = 0x45
			copy(pkt[16:], b[:])
			if table.Misses(pkt, 16) {
				require.False(t, has(a), "%v in %v", a, routes)
			}
			b6 := [16]byte{0: 0xfd, 1: byte(r.IntN(4)), 5: byte(r.IntN(4)), 15: byte(r.IntN(256))}
			require.Equal(t, has(netip.AddrFrom16(b6)), table.Has6(prefixes.Addr{binary.BigEndian.Uint64(b6[:]), binary.BigEndian.Uint64(b6[8:])}))
		}
		require.False(t, table.Misses(nil, 16), "what is no packet is for the parser")
	}
}
