package segments_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/segments"
)

func ends(src, dst string) segments.Ends {
	a, b := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	e := segments.Ends{SrcPort: a.Port(), DstPort: b.Port(), V6: a.Addr().Is6()}
	if e.V6 {
		e.Src, e.Dst = words(a.Addr()), words(b.Addr())
	} else {
		e.Src[0], e.Dst[0] = words(a.Addr())[0]>>32, words(b.Addr())[0]>>32
	}
	return e
}

// words returns the bytes of an address from the first on.
func words(a netip.Addr) [2]uint64 {
	b := append(a.AsSlice(), make([]byte, 12)...)
	return [2]uint64{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// Packets of all kinds, lengths and families, one after the other in one buffer, are what gopacket
// makes of the same fields, with true checksums.
func TestPackets(t *testing.T) {
	buf := make([]byte, segments.BufferLen)
	for _, to := range [][2]string{{"10.244.0.2:41000", "203.0.113.9:443"}, {"[fd12::2]:41000", "[2001:db8::9]:443"}} {
		e := ends(to[0], to[1])
		mss := uint16(1460)
		if e.V6 {
			mss = 1440
		}
		for payload := 0; payload <= segments.MaxPayload; payload += 360 {
			t.Run(fmt.Sprintf("%s %d", to[1], payload), func(t *testing.T) {
				zeros := pkttest.Payload(strings.Repeat("\x00", payload))
				got := segments.TCP(buf, &e, segments.Segment{Seq: 1 << 31, Flags: wire.SYN})
				want := pkttest.TCP(to[0], to[1], pkttest.SYN, pkttest.Seq(1<<31), pkttest.Window(64240), pkttest.MSS(mss),
					pkttest.TCPOption(1), pkttest.TCPOption(1), pkttest.TCPOption(4), pkttest.TCPOption(1), pkttest.WScale(7))
				assert.Equal(t, want, got)
				got = segments.TCP(buf, &e, segments.Segment{Seq: 7, Ack: 9, Flags: wire.ACK | wire.PSH, Payload: payload})
				want = pkttest.TCP(to[0], to[1], pkttest.ACK, pkttest.PSH, pkttest.Seq(7), pkttest.Ack(9), pkttest.Window(502), zeros)
				assert.Equal(t, want, got)
				got = segments.UDP(buf, &e, payload)
				assert.Equal(t, pkttest.UDP(to[0], to[1], strings.Repeat("\x00", payload)), got)
				pkttest.Check(t, got, pkttest.ChecksumsOK())
			})
		}
	}
}

// A UDP checksum that would be 0, which means none, is FFFF.
func TestZeroChecksum(t *testing.T) {
	buf := make([]byte, segments.BufferLen)
	seen := false
	e := ends("10.244.0.2:1", "203.0.113.9:53")
	for port := range 65535 {
		e.SrcPort = uint16(port + 1)
		sum := wire.UDP(segments.UDP(buf, &e, 12)[20:]).Checksum()
		assert.NotZero(t, sum)
		seen = seen || sum == 0xffff
	}
	assert.True(t, seen)
}
