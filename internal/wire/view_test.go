package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Every setter writes its own bytes and its accessor reads them back, whatever
// was there before.
func TestViewsSetAndGet(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(b []byte)
		want string // the bytes that come of all FF
		get  func(b []byte) any
		is   any
	}{
		"IPv4 version":     {func(b []byte) { IPv4(b).SetVersionAndHeaderLen(24) }, "46", func(b []byte) any { return IPv4(b).HeaderLen() }, 24},
		"IPv4 TOS":         {func(b []byte) { IPv4(b).SetTOS(0xb8) }, "ffb8", func(b []byte) any { return IPv4(b).TOS() }, uint8(0xb8)},
		"IPv4 length":      {func(b []byte) { IPv4(b).SetTotalLength(0x1234) }, "ffff1234", func(b []byte) any { return IPv4(b).TotalLength() }, uint16(0x1234)},
		"IPv4 ID":          {func(b []byte) { IPv4(b).SetID(0x1234) }, "ffffffff1234", func(b []byte) any { return IPv4(b).ID() }, uint16(0x1234)},
		"IPv4 flags":       {func(b []byte) { IPv4(b).SetFragment(IPv4MF, 1480) }, "ffffffffffff20b9", func(b []byte) any { return IPv4(b).Flags() }, uint8(IPv4MF)},
		"IPv4 offset":      {func(b []byte) { IPv4(b).SetFragment(IPv4DF, 65528) }, "ffffffffffff5fff", func(b []byte) any { return IPv4(b).FragmentOffset() }, 65528},
		"IPv4 TTL":         {func(b []byte) { IPv4(b).SetTTL(3) }, "ffffffffffffffff03", func(b []byte) any { return IPv4(b).TTL() }, uint8(3)},
		"IPv4 protocol":    {func(b []byte) { IPv4(b).SetProtocol(6) }, "ffffffffffffffffff06", func(b []byte) any { return IPv4(b).Protocol() }, uint8(6)},
		"IPv4 checksum":    {func(b []byte) { IPv4(b).SetChecksum(0x1234) }, "ffffffffffffffffffff1234", func(b []byte) any { return IPv4(b).Checksum() }, uint16(0x1234)},
		"IPv4 source":      {func(b []byte) { IPv4(b).SetSrc(a4) }, "ffffffffffffffffffffffff0a000004", func(b []byte) any { return IPv4(b).Src() }, uint32(a4)},
		"IPv4 destination": {func(b []byte) { IPv4(b).SetDst(a4) }, "ffffffffffffffffffffffffffffffff0a000004", func(b []byte) any { return IPv4(b).Dst() }, uint32(a4)},
		"IPv6 class":       {func(b []byte) { IPv6(b).SetVersionClassLabel(0xb8, 0xabcde) }, "6b8abcde", func(b []byte) any { return IPv6(b).TrafficClass() }, uint8(0xb8)},
		"IPv6 label":       {func(b []byte) { IPv6(b).SetVersionClassLabel(0, 0xabcde) }, "600abcde", func(b []byte) any { return IPv6(b).FlowLabel() }, uint32(0xabcde)},
		"IPv6 length":      {func(b []byte) { IPv6(b).SetPayloadLength(0x1234) }, "ffffffff1234", func(b []byte) any { return IPv6(b).PayloadLength() }, uint16(0x1234)},
		"IPv6 next header": {func(b []byte) { IPv6(b).SetNextHeader(6) }, "ffffffffffff06", func(b []byte) any { return IPv6(b).NextHeader() }, uint8(6)},
		"IPv6 hop limit":   {func(b []byte) { IPv6(b).SetHopLimit(3) }, "ffffffffffffff03", func(b []byte) any { return IPv6(b).HopLimit() }, uint8(3)},
		"IPv6 source":      {func(b []byte) { IPv6(b).SetSrc(a6) }, "fffffffffffffffffd000000000000000000000000000004", func(b []byte) any { return IPv6(b).Src() }, a6},
		"IPv6 destination": {func(b []byte) { IPv6(b).SetDst(a6) }, "fffffffffffffffffffffffffffffffffffffffffffffffffd000000000000000000000000000004", func(b []byte) any { return IPv6(b).Dst() }, a6},
		"TCP source port":  {func(b []byte) { TCP(b).SetSrcPort(443) }, "01bb", func(b []byte) any { return TCP(b).SrcPort() }, uint16(443)},
		"TCP dest port":    {func(b []byte) { TCP(b).SetDstPort(443) }, "ffff01bb", func(b []byte) any { return TCP(b).DstPort() }, uint16(443)},
		"TCP seq":          {func(b []byte) { TCP(b).SetSeq(0x12345678) }, "ffffffff12345678", func(b []byte) any { return TCP(b).Seq() }, uint32(0x12345678)},
		"TCP ack":          {func(b []byte) { TCP(b).SetAck(0x12345678) }, "ffffffffffffffff12345678", func(b []byte) any { return TCP(b).Ack() }, uint32(0x12345678)},
		"TCP data offset":  {func(b []byte) { TCP(b).SetDataOffset(32) }, "ffffffffffffffffffffffff80", func(b []byte) any { return TCP(b).DataOffset() }, 32},
		"TCP flags":        {func(b []byte) { TCP(b).SetFlags(SYN | ACK) }, "ffffffffffffffffffffffffff12", func(b []byte) any { return TCP(b).Flags() }, uint8(SYN | ACK)},
		"TCP window":       {func(b []byte) { copy(b[14:], "\x12\x34") }, "ffffffffffffffffffffffffffff1234", func(b []byte) any { return TCP(b).Window() }, uint16(0x1234)},
		"TCP checksum":     {func(b []byte) { TCP(b).SetChecksum(0x1234) }, "ffffffffffffffffffffffffffffffff1234", func(b []byte) any { return TCP(b).Checksum() }, uint16(0x1234)},
		"UDP source port":  {func(b []byte) { UDP(b).SetSrcPort(53) }, "0035", func(b []byte) any { return UDP(b).SrcPort() }, uint16(53)},
		"UDP dest port":    {func(b []byte) { UDP(b).SetDstPort(53) }, "ffff0035", func(b []byte) any { return UDP(b).DstPort() }, uint16(53)},
		"UDP checksum":     {func(b []byte) { UDP(b).SetChecksum(0x1234) }, "ffffffffffff1234", func(b []byte) any { return UDP(b).Checksum() }, uint16(0x1234)},
		"ICMPv4 type":      {func(b []byte) { ICMPv4(b).SetTypeCode(3, 4) }, "0304", func(b []byte) any { return [2]uint8{ICMPv4(b).Type(), ICMPv4(b).Code()} }, [2]uint8{3, 4}},
		"ICMPv4 checksum":  {func(b []byte) { ICMPv4(b).SetChecksum(0x1234) }, "ffff1234", func(b []byte) any { return ICMPv4(b).Checksum() }, uint16(0x1234)},
		"ICMPv4 ID":        {func(b []byte) { ICMPv4(b).SetID(0x1234) }, "ffffffff1234", func(b []byte) any { return ICMPv4(b).ID() }, uint16(0x1234)},
		"ICMPv4 seq":       {func(b []byte) { ICMPv4(b).SetSeq(0x1234) }, "ffffffffffff1234", func(b []byte) any { return ICMPv4(b).Seq() }, uint16(0x1234)},
		"ICMPv4 MTU":       {func(b []byte) { ICMPv4(b).SetMTU(1400) }, "ffffffffffff0578", func(b []byte) any { return ICMPv4(b).MTU() }, uint16(1400)},
		"ICMPv6 type":      {func(b []byte) { ICMPv6(b).SetTypeCode(4, 1) }, "0401", func(b []byte) any { return [2]uint8{ICMPv6(b).Type(), ICMPv6(b).Code()} }, [2]uint8{4, 1}},
		"ICMPv6 checksum":  {func(b []byte) { ICMPv6(b).SetChecksum(0x1234) }, "ffff1234", func(b []byte) any { return ICMPv6(b).Checksum() }, uint16(0x1234)},
		"ICMPv6 ID":        {func(b []byte) { ICMPv6(b).SetID(0x1234) }, "ffffffff1234", func(b []byte) any { return ICMPv6(b).ID() }, uint16(0x1234)},
		"ICMPv6 seq":       {func(b []byte) { ICMPv6(b).SetSeq(0x1234) }, "ffffffffffff1234", func(b []byte) any { return ICMPv6(b).Seq() }, uint16(0x1234)},
		"ICMPv6 MTU":       {func(b []byte) { ICMPv6(b).SetMTU(1280) }, "ffffffff00000500", func(b []byte) any { return ICMPv6(b).MTU() }, uint32(1280)},
	} {
		t.Run(name, func(t *testing.T) {
			const size = 64
			var ones, want [size]byte
			for i := range ones {
				ones[i], want[i] = 0xff, 0xff
			}
			copy(want[:], unhex(tc.want))
			tc.set(ones[:])
			require.Equal(t, want, ones)
			require.Equal(t, tc.is, tc.get(ones[:]))
		})
	}
}

func TestViewsOfOnePacket(t *testing.T) {
	v4 := unhex("450000280000400040060692c63364070a00000401bb9c4055667788000000005004000010b80000")
	p := parse(t, OK, v4)
	require.Equal(t, v4, []byte(p.IPv4()))
	require.Equal(t, v4[20:], p.IPv4().Payload())
	require.Equal(t, v4[20:], []byte(p.TCP()))
	require.Empty(t, p.TCP().Options())
	require.Empty(t, p.TCP().Payload())
	v6 := unhex("600000000014064020010db8000500000000000000000007fd00000000000000000000000000000401bb9c405566778800000000500400001a2d0000")
	p = parse(t, OK, v6)
	require.Equal(t, v6, []byte(p.IPv6()))
	require.Equal(t, v6[40:], p.IPv6().Payload())
	hi, lo := p.IPv6().SrcWords()
	require.Equal(t, []uint64{0x20010db800050000, 7}, []uint64{hi, lo})
	hi, lo = p.IPv6().DstWords()
	require.Equal(t, []uint64{0xfd00000000000000, 4}, []uint64{hi, lo})
}

func TestRewriteDestinations(t *testing.T) {
	p := parse(t, OK, unhex("450000280000400040060692c63364070a00000401bb9c4055667788000000005004000010b80000"))
	p.TCP().Adjust(p.IPv4().RewriteDst(f4))
	p.TCP().RewriteDstPort(fTCP)
	p.IPv4().RewriteID(0x4242)
	require.Equal(t, uint32(f4), p.IPv4().Dst())
	require.Equal(t, uint16(fTCP), p.TCP().DstPort())
	require.Equal(t, uint16(0x4242), p.IPv4().ID())
	p = parse(t, OK, p.B)
	require.True(t, VerifyL4(&p))
	p = parse(t, OK, unhex("600000000014064020010db8000500000000000000000007fd00000000000000000000000000000401bb9c405566778800000000500400001a2d0000"))
	p.TCP().Adjust(p.IPv6().RewriteDst(f6))
	require.Equal(t, f6, p.IPv6().Dst())
	require.True(t, VerifyL4(&p))
}

func TestICMPKinds(t *testing.T) {
	for typ := range 256 {
		m := []byte{byte(typ), 0, 0, 0, 3, 5, 0, 0, 'q'}
		require.Equal(t, typ == 3 || typ == 11 || typ == 12, ICMPv4(m).IsError())
		require.Equal(t, typ >= 1 && typ <= 4, ICMPv6(m).IsError())
		if quote := ICMPv4(m).QuoteLen(); ICMPv4(m).IsError() {
			require.Equal(t, 5*4, quote)
		} else {
			require.Zero(t, quote)
		}
		quote := 0
		if typ == ICMPv6Unreachable || typ == ICMPv6TimeExceeded {
			quote = 3 * 8
		}
		require.Equal(t, quote, ICMPv6(m).QuoteLen())
		require.Equal(t, "q", string(ICMPv4(m).Payload()))
		require.Equal(t, "q", string(ICMPv6(m).Payload()))
	}
}

func TestProblemCodes(t *testing.T) {
	seen := map[string]bool{}
	for p := range NumProblems {
		code := p.String()
		require.Equal(t, p == OK, code == "")
		require.False(t, seen[code], code)
		require.Regexp(t, `^[a-z0-9_]*$`, code)
		seen[code] = true
	}
	require.Equal(t, "Problem(200)", Problem(200).String())
	require.Equal(t, "short", Short.String())
	require.Equal(t, "v6_hop_option", HopOption.String())
}
