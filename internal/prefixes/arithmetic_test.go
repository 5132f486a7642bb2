package prefixes

import (
	"net/netip"
	"testing"
)

func TestPlusAndDistance(t *testing.T) {
	for _, tt := range []struct {
		from string
		n    uint64
		to   string
		near bool
	}{
		{"10.244.0.0", 0, "10.244.0.0", true},
		{"10.244.0.0", 255 << 8, "10.244.255.0", true},
		{"10.0.0.0", 1<<24 - 1, "10.255.255.255", true},
		{"255.255.255.255", 2, "0.0.0.1", true},
		{"fd00::", 1<<48 + 2, "fd00::1:0:0:2", true},
		{"fd00::ff00:0:0:0", 1<<56 - 1, "fd00::ffff:ffff:ffff:ffff", true},
		{"fd00::8000:0:0:0", 1 << 63, "fd00:0:0:1::", false},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1, "::", false},
	} {
		from, to := netip.MustParseAddr(tt.from), netip.MustParseAddr(tt.to)
		if got := Plus(from, tt.n); got != to {
			t.Errorf("%v + %d is %v, want %v", from, tt.n, got, to)
		}
		if n, ok := Distance(from, to); n != tt.n || ok != tt.near {
			t.Errorf("from %v to %v: %d, %t; want %d, %t", from, to, n, ok, tt.n, tt.near)
		}
	}
}

func TestDistanceBetweenFamilies(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("::a00:1")
	for _, tt := range [][2]netip.Addr{{four, six}, {six, four}, {four, {}}, {{}, six}} {
		if n, ok := Distance(tt[0], tt[1]); ok {
			t.Errorf("from %v to %v: %d", tt[0], tt[1], n)
		}
	}
}
