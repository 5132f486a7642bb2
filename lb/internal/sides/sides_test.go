package sides

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func TestSides(t *testing.T) {
	table := New(
		[]netip.Addr{netip.MustParseAddr("20.60.0.1"), netip.MustParseAddr("2603:1030::60")},
		[]netip.Prefix{netip.MustParsePrefix("10.224.0.4/32"), netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00::/64")},
	)
	for _, tt := range []struct {
		src, dst           string
		toPublic, fromOurs bool
	}{
		{"203.0.113.1:1", "20.60.0.1:1", true, false},
		{"20.60.0.1:1", "203.0.113.1:1", false, false},
		{"203.0.113.1:1", "20.60.0.2:1", false, false},
		{"10.224.0.4:1", "203.0.113.1:1", false, true},
		{"10.224.0.5:1", "203.0.113.1:1", false, false},
		{"10.244.0.9:1", "20.60.0.1:1", true, true},
		{"203.0.113.1:1", "10.244.0.9:1", false, false},
		{"[2001:db8::1]:1", "[2603:1030::60]:1", true, false},
		{"[fd00::9]:1", "[2001:db8::1]:1", false, true},
		{"[fd00:0:0:1::9]:1", "[2603:1030::61]:1", false, false},
	} {
		p := pkttest.UDP(tt.src, tt.dst, "x")
		assert.Equal(t, tt.toPublic, table.ToPublic(p), "%+v", tt)
		assert.Equal(t, tt.fromOurs, table.FromInside(p), "%+v", tt)
		least := map[byte]int{4: 20, 6: 40}[p[0]>>4]
		assert.Equal(t, tt.toPublic, table.ToPublic(p[:least]), "%+v", tt)
		for n := range least {
			assert.False(t, table.ToPublic(p[:n]) || table.FromInside(p[:n]), "%+v, %d bytes", tt, n)
		}
		assert.Zero(t, testing.AllocsPerRun(10, func() {
			table.ToPublic(p)
			table.FromInside(p)
		}))
	}
	assert.False(t, New(nil, nil).ToPublic(pkttest.UDP("10.224.0.4:1", "20.60.0.1:1", "x")))
}
