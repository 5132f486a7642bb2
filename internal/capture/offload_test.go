package capture

import (
	"encoding"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

const (
	host4, other4, far4 = "192.0.2.11", "192.0.2.12", "198.51.100.53"
	host6, far6         = "2001:db8::11", "2001:db8:5::53"
)

func at(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// segment is a TCP segment with n bytes of data.
func segment(from, to string, port, n int, fields ...pkttest.Field) []byte {
	fields = append([]pkttest.Field{pkttest.TCPFlags("A"), pkttest.Payload(strings.Repeat("x", n))}, fields...)
	return pkttest.TCP(at(from, port), at(to, 443), fields...)
}

// patched returns a packet with other bytes at an offset.
func patched(b []byte, at int, bytes ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], bytes)
	return b
}

// read reads packets from a capture without link layers.
func read(t testing.TB, snap int, packets ...[]byte) *Capture {
	t.Helper()
	c, err := Read(pkttest.PcapCut(layers.LinkTypeRaw, snap, packets...))
	require.NoError(t, err)
	return c
}

// sound reports whether all checksums of a packet are right.
func sound(b []byte) bool {
	var p wire.Packet
	problem := wire.Parse(b, &p)
	return problem == wire.OK && (p.Flags&wire.Fragmented != 0 || wire.VerifyL4(&p))
}

func TestRepair(t *testing.T) {
	syn := func(host string, port int) []byte {
		return pkttest.TCP(at(host, port), at(far4, 80), pkttest.TCPFlags("S"), pkttest.MSS(1460))
	}
	bad := func(host string, port int) []byte {
		return pkttest.TCP(at(host, port), at(far4, 80), pkttest.TCPFlags("S"), pkttest.BadChecksum())
	}
	query := pkttest.UDP(at(host4, 5000), at(far4, 53), "query")
	const v4Length, v4Checksum, v4TCPSum, v6Length = 2, 10, 36, 4
	type packets = [][]byte
	for name, c := range map[string]struct {
		packets  packets
		auto     Repairs
		all      int  // packets that RepairAll repairs
		unsound  bool // some stay so under auto
		original packets
	}{
		"sound": {packets: packets{syn(host4, 1), query}},
		"partial sums, even of one packet in many": {
			packets:  packets{syn(host4, 1), pkttest.Offload(syn(host4, 2)), pkttest.Offload(query)},
			original: packets{syn(host4, 1), syn(host4, 2), query}, auto: Repairs{Packets: 2, Hosts: 1}, all: 2},
		"partial sums of IPv6": {
			packets:  packets{pkttest.Offload(segment(host6, far6, 1, 9)), pkttest.Offload(pkttest.UDP(at(host6, 1), at(far6, 53), "odd"))},
			original: packets{segment(host6, far6, 1, 9), pkttest.UDP(at(host6, 1), at(far6, 53), "odd")}, auto: Repairs{Packets: 2, Hosts: 1}, all: 2},
		"no sum at all in TCP": {
			packets:  packets{syn(host4, 1), patched(syn(host4, 2), v4TCPSum, 0, 0)},
			original: packets{syn(host4, 1), syn(host4, 2)}, auto: Repairs{Packets: 1, Hosts: 1}, all: 1},
		"no sum at all in UDP": {packets: packets{query, pkttest.UDP(at(host4, 1), at(far4, 53), "q", pkttest.NoChecksum())}},
		"no header checksum": {
			packets:  packets{syn(host4, 1), patched(syn(host4, 2), v4Checksum, 0, 0)},
			original: packets{syn(host4, 1), syn(host4, 2)}, auto: Repairs{Packets: 1, Hosts: 1}, all: 1},
		"damage of one packet":   {packets: packets{syn(host4, 1), bad(host4, 2), syn(host4, 3), bad(host4, 4), bad(host4, 5)}, all: 3, unsound: true},
		"damage of the only one": {packets: packets{bad(host4, 1)}, all: 1, unsound: true},
		"damage of a few":        {packets: packets{bad(host4, 1), bad(host4, 2), syn(other4, 1)}, all: 2, unsound: true},
		"nothing right":          {packets: packets{bad(host4, 1), bad(other4, 2)}, auto: Repairs{Packets: 2, Hosts: 2}, all: 2},
		"wrong throughout, of one host": {
			packets: packets{bad(host4, 1), syn(other4, 1), bad(host4, 2), bad(other4, 2), bad(host4, 3)},
			auto:    Repairs{Packets: 3, Hosts: 1}, all: 4, unsound: true},
		"wrong throughout, of many hosts": {
			packets: packets{bad(host4, 1), bad(other4, 1), bad("192.0.2.13", 1)}, auto: Repairs{Packets: 3, Hosts: 3}, all: 3},
		"wrong throughout, but for ICMP": {
			packets: packets{bad(host4, 1), bad(host4, 2), bad(host4, 3), pkttest.ICMPEcho(host4, far4, 1, 1)}, auto: Repairs{Packets: 3, Hosts: 1}, all: 3},
		"wrong throughout, ICMP": {
			packets: packets{pkttest.ICMPEcho(host4, far4, 1, 1, pkttest.BadChecksum()), pkttest.ICMPEcho(host4, far4, 1, 2, pkttest.BadChecksum()), pkttest.ICMPEcho(host6, far6, 1, 2, pkttest.BadChecksum())},
			auto:    Repairs{Packets: 3, Hosts: 2}, all: 3},
		"a length of 0": {
			packets:  packets{segment(host4, far4, 1, 5), pkttest.Offload(patched(segment(host4, far4, 1, 3000), v4Length, 0, 0))},
			original: packets{segment(host4, far4, 1, 5), segment(host4, far4, 1, 3000)}, auto: Repairs{Packets: 1, Lengths: 1, Hosts: 1}, all: 1},
		"a length of 0 in IPv6": {
			packets:  packets{pkttest.Offload(patched(segment(host6, far6, 1, 3000), v6Length, 0, 0))},
			original: packets{segment(host6, far6, 1, 3000)}, auto: Repairs{Packets: 1, Lengths: 1, Hosts: 1}, all: 1},
		"a length of 0 in UDP": {packets: packets{patched(pkttest.UDP(at(host6, 1), at(far6, 53), "q"), v6Length, 0, 0)}, unsound: true},
		"fragments":            {packets: slices.Concat(pkttest.Fragments(pkttest.UDP(at(host4, 1), at(far4, 53), strings.Repeat("q", 99), pkttest.BadChecksum()), 48, 9))},
		"hardly packets":       {packets: packets{{0x45}, {0x60, 1, 2}, query[:20], query[:27], {0}}, unsound: true},
	} {
		t.Run(name, func(t *testing.T) {
			file := pkttest.Pcap(layers.LinkTypeRaw, c.packets...)
			kept := slices.Clone(file)
			for mode, want := range map[Checksums]int{RepairOffloaded: c.auto.Packets, RepairAll: c.all, RepairNone: 0} {
				got, err := Read(file)
				require.NoError(t, err)
				repairs := got.Repair(mode)
				assert.Equal(t, want, repairs.Packets, mode)
				if mode == RepairOffloaded {
					assert.Equal(t, c.auto, repairs)
				}
				for i, p := range got.Packets {
					switch {
					case mode == RepairNone || want == 0:
						assert.Equal(t, c.packets[i], p.Data)
					case c.original != nil:
						assert.Equal(t, c.original[i], p.Data, "%v %d", mode, i)
					case mode == RepairAll || !c.unsound:
						assert.True(t, sound(p.Data), "%v %d", mode, i)
					}
				}
				assert.Zero(t, got.Repair(mode).Packets, "nothing is left to do")
			}
			assert.Equal(t, kept, file, "the file stays")
		})
	}
}

func TestCutPackets(t *testing.T) {
	long := segment(host4, far4, 1, 1000)
	long6 := segment(host6, far6, 1, 1000)
	empty := segment(host4, far4, 2, 0)
	for name, c := range map[string]struct {
		snap      int
		packet    []byte
		cut, kept int
	}{
		"whole":                  {2000, long, 0, len(long)},
		"data cut":               {96, long, len(long) - 96, 96},
		"headers just kept":      {40, long, len(long) - 40, 40},
		"headers cut":            {39, long, 0, 39},
		"IPv6":                   {60, long6, len(long6) - 60, 60},
		"headers of IPv6 cut":    {59, long6, 0, 59},
		"only padding cut":       {40, append(slices.Clone(empty), make([]byte, 20)...), 0, 40},
		"cut, and padded":        {96, append(slices.Clone(long), 1, 2, 3), len(long) - 96, 96},
		"longer than its frame":  {96, long[:500], 0, 96},
		"a length of 0":          {96, patched(long, 2, 0, 0), len(long) - 96, 96},
		"an IP header":           {20, long, 0, 20},
		"a fragment of anything": {96, patched(long, 6, 0, 99), len(long) - 96, 96},
	} {
		t.Run(name, func(t *testing.T) {
			got := read(t, c.snap, c.packet)
			repairs := got.Repair(RepairOffloaded)
			assert.Equal(t, name == "a length of 0", repairs.Packets == 1)
			require.Len(t, got.Packets, 1)
			p := &got.Packets[0]
			assert.Equal(t, c.cut, p.Cut())
			assert.Len(t, p.Data, c.kept)
			whole := p.AppendTo([]byte{7})[1:]
			assert.Len(t, whole, c.kept+c.cut)
			assert.Equal(t, whole[:c.kept], p.Data)
			if c.cut > 0 && c.packet[6]&0x3f == 0 && c.packet[7] != 99 {
				assert.True(t, sound(whole), "the checksum is for zeros")
			}
		})
	}
}

// A capture of headers alone holds the partial sums still.
func TestRepairKnowsCutPacketsByTheirPartialSums(t *testing.T) {
	got := read(t, 60, pkttest.Offload(segment(host4, far4, 1, 1000)), segment(host4, far4, 1, 1000), segment(host4, far4, 1, 1000, pkttest.BadChecksum()))
	assert.Equal(t, Repairs{Packets: 1, Hosts: 1}, got.Repair(RepairOffloaded))
	kept := read(t, 60, segment(host4, far4, 1, 1000))
	before := slices.Clone(kept.Packets[0].Data)
	kept.Repair(RepairNone)
	assert.Equal(t, before, kept.Packets[0].Data)
}

func TestRepairsAreTold(t *testing.T) {
	assert.Empty(t, Repairs{}.String())
	assert.Equal(t, "1 packet from 1 host had no right checksums when they were captured (offloading): these are computed", Repairs{Packets: 1, Hosts: 1}.String())
	assert.Equal(t, "7 packets from 2 hosts had no right checksums when they were captured (offloading): these are computed, and 3 lengths of 0 filled in", Repairs{7, 3, 2}.String())
}

func TestChecksumsHaveNames(t *testing.T) {
	for c := range numChecksums {
		text, err := encoding.TextMarshaler(c).MarshalText()
		require.NoError(t, err)
		var again Checksums
		require.NoError(t, again.UnmarshalText(text))
		assert.Equal(t, c, again)
	}
	var c Checksums
	assert.EqualError(t, c.UnmarshalText([]byte("none")), "must be one of auto, repair, keep")
}
