package prefixes

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// scan is the dull twin: rows one by one, longest prefix first.
type scan struct {
	rows  []Row
	order []int
}

func newScan(rows []Row) scan {
	s := scan{rows: rows}
	for i := range rows {
		if rows[i].Prefix.IsValid() {
			s.order = append(s.order, i)
		}
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return rows[b].Prefix.Bits() - rows[a].Prefix.Bits() })
	return s
}

func (s scan) match(a netip.Addr, proto uint8, port int32) int {
	for _, i := range s.order {
		r := &s.rows[i]
		if r.Prefix.Masked().Contains(a) && (r.Proto == 0 || r.Proto == proto) && (port < 0 || uint16(port) >= r.First && uint16(port) <= r.Last) {
			return i
		}
	}
	return -1
}

// same compares a table with its twin at an address, for protocols and ports.
func same(t *testing.T, tab *Table, s scan, a netip.Addr, ports []int32) {
	t.Helper()
	f, addr := split(a)
	for _, proto := range []uint8{6, 17, 1, 132} {
		for _, port := range ports {
			if got, want := tab.Match(f == 1, addr, proto, port), s.match(a, proto, port); got != want {
				t.Fatalf("%v protocol %d port %d: row %d, want %d of %v", a, proto, port, got, want, s.rows)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	p := netip.MustParsePrefix
	rows := []Row{
		0:  {p("10.0.0.0/8"), 0, 0, 65535},
		1:  {p("10.1.0.0/16"), 6, 0, 65535},
		2:  {p("10.1.2.0/24"), 17, 53, 53},
		3:  {p("10.1.2.0/24"), 17, 0, 65535},
		4:  {p("2001:db8::/32"), 0, 0, 65535},
		5:  {p("10.1.2.3/32"), 0, 80, 90},
		6:  {p("255.255.255.255/32"), 0, 0, 65535},
		7:  {p("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), 0, 0, 65535},
		8:  {p("10.1.2.77/24"), 132, 0, 65535},
		9:  {netip.Prefix{}, 0, 0, 65535},
		10: {p("2001:db8:0:1::/64"), 6, 443, 443},
	}
	tab := New(rows)
	for _, row := range []struct {
		addr  string
		proto uint8
		port  int32
		want  int
	}{
		{"10.9.9.9", 6, 80, 0}, {"10.1.9.9", 6, 80, 1}, {"10.1.9.9", 17, 80, 0},
		{"10.1.2.4", 17, 53, 2}, {"10.1.2.4", 17, 54, 3}, {"10.1.2.4", 6, 53, 1}, {"10.1.2.4", 132, 0, 8},
		{"10.1.2.3", 17, 80, 5}, {"10.1.2.3", 17, 91, 3}, {"10.1.2.3", 17, AnyPort, 5}, {"10.1.2.4", 17, AnyPort, 2},
		{"11.0.0.0", 6, 80, -1}, {"9.255.255.255", 6, 80, -1}, {"255.255.255.255", 6, 80, 6}, {"255.255.255.254", 6, 80, -1},
		{"2001:db8::1", 6, 80, 4}, {"2001:db8:0:1::1", 6, 443, 10}, {"2001:db8:0:1::1", 6, 444, 4}, {"2001:db9::", 6, 80, -1},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 6, 1, 7}, {"::", 6, 1, -1}, {"0.0.0.0", 6, 1, -1},
	} {
		f, a := split(netip.MustParseAddr(row.addr))
		if got := tab.Match(f == 1, a, row.proto, row.port); got != row.want {
			t.Errorf("%v protocol %d port %d: row %d, want %d", row.addr, row.proto, row.port, got, row.want)
		}
	}
	if (&Table{}).Match(false, V4(1), 6, 1) != -1 {
		t.Error("an empty table has rows")
	}
}

// randomRows makes rows that nest, meet and repeat.
func randomRows(r *rand.Rand, n int) (rows []Row) {
	for range n {
		var a netip.Addr
		bits := r.IntN(33)
		if r.IntN(3) == 0 {
			var b [16]byte
			b[0], b[7], b[8], b[15] = byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(2)*255), byte(r.IntN(4))
			a, bits = netip.AddrFrom16(b), r.IntN(129)
		} else {
			a = netip.AddrFrom4([4]byte{byte(10 + r.IntN(2)), byte(r.IntN(2) * 255), byte(r.IntN(3)), byte(r.IntN(256))})
		}
		row := Row{Prefix: netip.PrefixFrom(a, bits), Last: 65535}
		row.Proto = []uint8{0, 0, 6, 17, 132}[r.IntN(5)]
		if r.IntN(2) == 0 {
			row.First = uint16(r.IntN(30))
			row.Last = row.First + uint16(r.IntN(20))
		}
		rows = append(rows, row)
	}
	return rows
}

func TestMatchAgainstScan(t *testing.T) {
	pkttest.OneGoroutine(t)
	const seed = 4632
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 5, 20, 100} {
		for range 40 {
			rows := randomRows(r, n)
			if n == 20 { // all of one prefix
				for i := range rows {
					rows[i].Prefix = netip.MustParsePrefix("10.0.0.0/9")
				}
			}
			tab, s := New(rows), newScan(rows)
			for _, row := range rows {
				p := row.Prefix.Masked()
				if !p.IsValid() {
					continue
				}
				last := lastOf(p)
				for _, a := range []netip.Addr{p.Addr(), p.Addr().Prev(), last, last.Next(), row.Prefix.Addr()} {
					if a.IsValid() {
						same(t, tab, s, a, []int32{AnyPort, 0, int32(row.First), int32(row.Last), int32(r.IntN(60)), 65535})
					}
				}
			}
		}
	}
}

// lastOf returns the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// What New makes is linear in what it gets: places where the prefix changes, and
// places where the first fitting row of a prefix does.
func TestSizeIsLinear(t *testing.T) {
	const n = 100_000
	var nested, apart, onePrefix []Row
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		apart = append(apart, Row{netip.PrefixFrom(a, 32), 0, 0, 65535})
		nested = append(nested, Row{netip.PrefixFrom(a, 8+i%25), 6, 443, 443})
		onePrefix = append(onePrefix, Row{netip.MustParsePrefix("10.0.0.0/8"), []uint8{6, 17}[i&1], uint16(i), uint16(i + i%5000)})
	}
	for name, rows := range map[string][]Row{"apart": apart, "nested": nested, "ports of one prefix": onePrefix} {
		f := &New(rows).families[0]
		places := len(f.starts)
		for i := range f.ports {
			for _, l := range f.ports[i].lists {
				places += len(l.starts)
			}
		}
		if len(f.top) > places+2 {
			t.Errorf("%s: %d parts of %d places", name, len(f.top), places)
		}
		if places > 2*n {
			t.Errorf("%s: %d places for %d rows", name, places, n)
		}
	}
}

// FuzzMatch looks for a table that differs from its twin.
func FuzzMatch(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, uint8(10), uint32(0x0a000001), uint16(5))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint8, addr uint32, port uint16) {
		rows := randomRows(rand.New(rand.NewPCG(seed, 0)), int(n))
		tab, s := New(rows), newScan(rows)
		same(t, tab, s, netip.AddrFrom4([4]byte{byte(addr >> 24), byte(addr >> 16), byte(addr >> 8), byte(addr)}), []int32{AnyPort, int32(port)})
		same(t, tab, s, netip.AddrFrom16([16]byte{byte(addr), 7: byte(addr >> 8), 8: byte(addr >> 16), 15: byte(addr >> 24)}), []int32{AnyPort, int32(port)})
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			var rows []Row
			for i := range n {
				rows = append(rows, Row{netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 0}), 24), 0, 0, 65535})
			}
			tab, a := New(rows), uint32(0)
			for b.Loop() {
				a += 0x9e3779b9
				tab.Match(false, V4(a>>8), 6, 443)
			}
		})
	}
}
