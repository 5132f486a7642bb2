package wire

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// The edge of incremental checksums: every word that the change leaves alone is
// zero, as far as the protocol lets it. The result is that of a full computation
// for every change of one word, and for changes to and from the edges of two.
func TestIncrementalChecksumOfNothingButZeros(t *testing.T) {
	edges := []uint16{0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff}
	for _, p := range []struct {
		name    string
		covered func(word uint16) []byte // all that the checksum covers, with the word that changes
		seen    int                      // offset in it of what the view sees
		sumAt   int                      // offset of the checksum there
		change  func(view []byte, to uint16)
		udp     bool
	}{
		{"ICMP echo reply", func(id uint16) []byte { return words16(0, 0, id, 0) }, 0, 2,
			func(b []byte, to uint16) { ICMPv4(b).RewriteID(to) }, false},
		{"ICMP echo reply with data", func(id uint16) []byte { return words16(0, 0, id, 0, 0, 0, 0) }, 0, 2,
			func(b []byte, to uint16) { ICMPv4(b).RewriteID(to) }, false},
		{"ICMP echo reply with data that sums to nothing", func(id uint16) []byte { return words16(0, 0, id, 0, 0xff00, 0xff) }, 0, 2,
			func(b []byte, to uint16) { ICMPv4(b).RewriteID(to) }, false},
		{"ICMP echo reply with odd data", func(id uint16) []byte { return append(words16(0, 0, id, 0), 0) }, 0, 2,
			func(b []byte, to uint16) { ICMPv4(b).RewriteID(to) }, false},
		{"ICMP echo request", func(id uint16) []byte { return words16(0x0800, 0, id, 0) }, 0, 2,
			func(b []byte, to uint16) { ICMPv4(b).RewriteID(to) }, false},
		{"ICMPv6 echo", func(id uint16) []byte { return words16(ProtoICMPv6, 8, 0x8000, 0, id, 0) }, 4, 6,
			func(b []byte, to uint16) { ICMPv6(b).RewriteID(to) }, false},
		{"UDP", func(port uint16) []byte { return words16(ProtoUDP, 8, port, 0, 8, 0) }, 4, 10,
			func(b []byte, to uint16) { UDP(b).RewriteSrcPort(to) }, true},
		{"TCP", func(port uint16) []byte { return words16(ProtoTCP, 20, port, 0, 0, 0, 0, 0, 0x5000, 0, 0, 0) }, 4, 20,
			func(b []byte, to uint16) { TCP(b).RewriteSrcPort(to) }, false},
		{"IPv4", func(id uint16) []byte { return words16(0x4500, 0, id, 0, 0, 0, 0, 0, 0, 0) }, 0, 10,
			func(b []byte, to uint16) { IPv4(b).RewriteID(to) }, false},
	} {
		t.Run(p.name, func(t *testing.T) {
			truth := func(word uint16) []byte {
				b := p.covered(word)
				sum := Checksum(b, 0)
				if p.udp && sum == 0 {
					sum = 0xffff
				}
				binary.BigEndian.PutUint16(b[p.sumAt:], sum)
				return b
			}
			check := func(from, to uint16) {
				got := truth(from)
				p.change(got[p.seen:], to)
				if want := truth(to); string(got) != string(want) {
					t.Fatalf("%04x to %04x: %x, want %x", from, to, got, want)
				}
			}
			for word := 0; word < 1<<16; word += pkttest.Operations(17, 1, 1) {
				for _, edge := range edges {
					check(uint16(word), edge)
					check(edge, uint16(word))
				}
			}
		})
	}
}

// A header whose addresses change at once, to what is nearest to nothing, keeps its
// true checksum.
func TestIPv4ChecksumOfAnAddressOfZeros(t *testing.T) {
	edges := []uint32{0, 1, 0xffff, 0x10000, 0xbaff, 0xbafe, 0xbaff0000, 0xffff0000, 0xffffffff}
	for _, src := range edges {
		for _, dst := range edges {
			for _, to := range edges {
				h := IPv4(words16(0x4500, 0, 0, 0, 0, 0, uint16(src>>16), uint16(src), uint16(dst>>16), uint16(dst)))
				h.ComputeChecksum()
				h.RewriteSrc(to)
				got := h.Checksum()
				h.ComputeChecksum()
				require.Equal(t, h.Checksum(), got, "%08x %08x to %08x", src, dst, to)
			}
		}
	}
}

// words16 returns words as bytes.
func words16(words ...uint16) (b []byte) {
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return b
}
