package addressing_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestSizes(t *testing.T) {
	for p, want := range map[string][3]int{ // addresses, pod blocks, nodes
		"10.0.0.0/8": {1 << 24, 1 << 16, 1<<24 - 5}, "10.0.0.0/24": {256, 1, 251}, "10.0.0.0/25": {128, 0, 123}, "10.0.0.0/30": {4, 0, 0}, "10.0.0.0/29": {8, 0, 3},
		"fd00::/64": {1<<31 - 1, 1 << 16, 1<<31 - 6}, "fd00::/80": {1<<31 - 1, 1, 1<<31 - 6}, "fd00::/124": {16, 0, 11}, "::/0": {1<<31 - 1, 1<<31 - 1, 1<<31 - 6},
	} {
		require.Equal(t, want, [3]int{addressing.Size(prefix(p)), addressing.NodesPerPodCIDR(prefix(p)), addressing.NodesPerSubnet(prefix(p))}, p)
	}
}

func TestBlocksAreNumbered(t *testing.T) {
	for cidr, blocks := range map[string][2]string{"10.244.0.0/16": {"10.244.0.0/24", "10.244.255.0/24"}, "fd00::/64": {"fd00::/80", "fd00::ff:0:0:0/80"}} {
		for i, want := range map[int]string{0: blocks[0], 255: blocks[1]} {
			b := addressing.PodBlock(prefix(cidr), i)
			require.Equal(t, want, b.String())
			require.Equal(t, i, addressing.BlockNumber(prefix(cidr), b))
		}
	}
}

// The first four addresses are Azure's, and of IPv4 the last.
func TestReserved(t *testing.T) {
	for _, s := range []string{"10.1.0.0/28", "fd00::/124"} {
		n, a := 0, prefix(s).Addr()
		for range 16 {
			if addressing.IsReserved(prefix(s), a) {
				n++
			}
			a = a.Next()
		}
		require.Equal(t, map[string]int{"10.1.0.0/28": 5, "fd00::/124": 4}[s], n)
		require.False(t, addressing.IsReserved(prefix(s), addressing.NodeAddr(prefix(s), 0)))
	}
	for _, tt := range []struct {
		subnet string
		taken  int // from the end
		want   string
	}{{"10.1.0.0/29", 0, "10.1.0.6"}, {"10.1.0.0/29", 2, "10.1.0.4"}, {"10.1.0.0/29", 3, ""}, {"10.1.0.0/30", 0, ""}, {"10.1.0.0/8", 0, "10.0.255.254"}, {"fd00::/64", 1, "fd00::fffd"}} {
		left := tt.taken
		got := addressing.LastFree(prefix(tt.subnet), func(netip.Addr) bool { left--; return left >= 0 })
		if tt.want == "" {
			require.False(t, got.IsValid(), tt)
		} else {
			require.Equal(t, tt.want, got.String(), tt)
		}
	}
}

// Numbers are the lowest that a set has not.
func TestNumbersAgainstASet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for range 200 {
		n, taken := addressing.NewNumbers(), map[int]bool{}
		for range rng.IntN(30) {
			k := rng.IntN(20)
			n.Take(k)
			taken[k] = true
		}
		n.TakeAddr(prefix("10.1.0.0/24"), netip.MustParseAddr("10.1.0.9"))
		n.TakeAddr(prefix("10.1.0.0/24"), netip.MustParseAddr("10.2.0.9"))
		taken[5] = true
		for range 30 {
			want := 0
			for taken[want] {
				want++
			}
			require.Equal(t, want, n.Free())
			taken[want] = true
		}
	}
}

func TestAddressesOutsideOfASubnetDoNotMatter(t *testing.T) {
	for _, s := range []string{"10.1.0.0/28", "fd00::/124"} {
		n := addressing.NewNumbers()
		for _, a := range []string{"10.2.0.5", "fd00:0:0:1::5", "::a01:5", "10.0.255.255"} {
			n.TakeAddr(prefix(s), netip.MustParseAddr(a))
		}
		n.TakeAddr(prefix(s), addressing.NodeAddr(prefix(s), 1))
		require.Equal(t, []int{0, 2}, []int{n.Free(), n.Free()}, s)
	}
}

// Ranges that numbers collapse into have just these, and no two of them are one.
func TestCollapseAgainstASet(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	for range 2000 {
		subnet := prefix([]string{"10.1.0.0/25", "fd00::/121"}[rng.IntN(2)])
		var numbers []int
		for k := range 100 {
			if rng.IntN(100) < []int{50, 95}[rng.IntN(2)] {
				numbers = append(numbers, k)
			}
		}
		want := map[netip.Addr]bool{}
		for _, k := range numbers {
			want[addressing.NodeAddr(subnet, k)] = true
		}
		got := map[netip.Addr]bool{}
		ranges := addressing.Collapse(subnet, numbers)
		for i, r := range ranges {
			require.Equal(t, r, r.Masked())
			for a := r.Addr(); r.Contains(a); a = a.Next() {
				require.False(t, got[a])
				got[a] = true
			}
			if i > 0 && ranges[i-1].Bits() == r.Bits() && r.Bits() > 0 {
				joined := netip.PrefixFrom(ranges[i-1].Addr(), r.Bits()-1)
				require.False(t, joined == joined.Masked() && joined.Contains(r.Addr()), "%v and %v are one", ranges[i-1], r)
			}
		}
		require.Equal(t, want, got)
	}
}

// node is what the twin of Places has.
type node struct {
	addrs []netip.Addr
	pods  []netip.Prefix
}

// Places say of any address what going through all nodes says.
func TestPlacesAgainstAList(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	for round := range 60 {
		p := addressing.Places{Whole: round%2 == 0}
		var nodes []node
		for i := range 1 + rng.IntN(12) {
			n := node{addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: byte(i)})}}
			if p.Whole { // some ranges in a subnet
				for range 1 + rng.IntN(3) {
					bits := 28 + rng.IntN(5)
					r := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i), byte(rng.IntN(256))}), bits).Masked()
					if !slices.ContainsFunc(n.pods, r.Overlaps) {
						n.pods = append(n.pods, r)
					}
				}
			} else {
				k := i*3 + rng.IntN(3)
				n.pods = []netip.Prefix{addressing.PodBlock(prefix("10.244.0.0/16"), k), addressing.PodBlock(prefix("fd12::/64"), k)}
			}
			nodes = append(nodes, n)
			p.Add(i, n.addrs, n.pods)
		}
		for i, n := range nodes {
			room := 0
			for _, r := range n.pods {
				room += addressing.Size(r)
			}
			if !p.Whole {
				room = addressing.PodOffsets
			}
			require.Equal(t, room, p.Room(i))
			for _, offset := range []int{addressing.FirstPodOffset, addressing.FirstPodOffset + rng.IntN(room), addressing.FirstPodOffset + room - 1} {
				addrs := p.PodAddrs(i, offset)
				require.Len(t, addrs, map[bool]int{true: 1, false: 2}[p.Whole])
				for _, a := range addrs {
					at, o, ok := p.Locate(a)
					require.Equal(t, []any{i, uint64(offset), true}, []any{at, o, ok}, "%v", a)
				}
			}
		}
		for range 500 {
			a := netip.AddrFrom4([4]byte{10, []byte{1, 2, 244}[rng.IntN(3)], byte(rng.IntN(40)), byte(rng.IntN(256))})
			pkt := pkttest.UDP(netip.AddrPortFrom(a, 1).String(), "192.0.2.1:1", "")
			if rng.IntN(2) == 0 {
				a = netip.AddrFrom16([16]byte{0: 0xfd, 1: []byte{1, 0x12}[rng.IntN(2)], 9: byte(rng.IntN(40)), 15: byte(rng.IntN(16))})
				pkt = pkttest.UDP(netip.AddrPortFrom(a, 1).String(), "[2001:db8::1]:1", "")
			}
			own := slices.IndexFunc(nodes, func(n node) bool { return slices.Contains(n.addrs, a) })
			pod := slices.IndexFunc(nodes, func(n node) bool {
				return slices.ContainsFunc(n.pods, func(r netip.Prefix) bool { return r.Contains(a) })
			})
			at, host := p.Of(pkt, 12, 8)
			require.Equal(t, []any{max(own, pod), own >= 0}, []any{at, host}, "%v", a)
			located, _, ok := p.Locate(a)
			require.Equal(t, pod >= 0, ok, "%v", a)
			if ok {
				require.Equal(t, pod, located)
			}
		}
	}
}

func TestEndsAndProtocols(t *testing.T) {
	for _, tt := range []struct {
		pkt        []byte
		src, dst   string
		unfollowed bool
	}{
		{pkttest.UDP("10.0.0.1:1", "10.0.0.2:2", "x"), "10.0.0.1", "10.0.0.2", false},
		{pkttest.TCP("[fd00::1]:1", "[fd00::2]:2", pkttest.SYN), "fd00::1", "fd00::2", false},
		{pkttest.ICMPEcho("10.0.0.1", "10.0.0.2", 1, 1), "10.0.0.1", "10.0.0.2", false},
		{pkttest.IP("10.0.0.1", "10.0.0.2", 132, []byte("twelve bytes")), "10.0.0.1", "10.0.0.2", true},
		{pkttest.IP("fd00::1", "fd00::2", 50, []byte("twelve bytes")), "fd00::1", "fd00::2", true},
		{pkttest.Fragments(pkttest.UDP("[fd00::1]:1", "[fd00::2]:2", string(make([]byte, 99))), 48, 7)[1], "fd00::1", "fd00::2", false},
		{pkttest.Fragments(pkttest.IP("fd00::1", "fd00::2", 132, make([]byte, 99)), 48, 7)[1], "fd00::1", "fd00::2", true},
	} {
		src, dst := addressing.Ends(tt.pkt)
		require.Equal(t, []string{tt.src, tt.dst}, []string{src.String(), dst.String()})
		require.Equal(t, tt.unfollowed, addressing.Unfollowed(tt.pkt), "%x", tt.pkt)
		for n := range 20 {
			src, dst := addressing.Ends(tt.pkt[:n])
			require.False(t, src.IsValid() || dst.IsValid() || addressing.Unfollowed(tt.pkt[:n]))
		}
	}
}
