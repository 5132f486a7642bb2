package snat_test

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// span lists the offsets from, from+1, ... to-1.
func span(from, to int) (at []int) {
	for i := from; i < to; i++ {
		at = append(at, i)
	}
	return at
}

// Of each packet only the address, the port and the checksums that cover them
// change; they are right after it; and all is as it was when it has come back.
func TestNAT_H1_OnlyListedBytesChange(t *testing.T) {
	const (
		mss, wscale = 1460, 7
		odd         = "an odd payload!"
	)
	type family struct {
		name, vm, frontend, server string
		src, dst                   []int // the address's offsets
		ipSum                      []int
		l4                         int
	}
	for _, f := range []family{
		{"IPv4", vmA, frontend, serverA, span(12, 16), span(16, 20), span(10, 12), 20},
		{"IPv6", vmA6, frontend6, serverA6, span(8, 24), span(24, 40), nil, 40},
	} {
		inside, remote, outside := socket(f.vm, 5000), socket(f.server, 443), socket(f.frontend, 1024)
		for _, tc := range []struct {
			name    string
			out, in []byte
			sum     int  // offset of the checksum in the transport header
			zero    bool // no checksum
			grown   int  // IP options
		}{
			{name: "SYN with options", sum: 16,
				out: pkttest.TCP(inside, remote, pkttest.SYN, pkttest.MSS(mss), pkttest.WScale(wscale), pkttest.ECE, pkttest.CWR, pkttest.TOS(0xb9)),
				in:  pkttest.TCP(remote, outside, pkttest.TCPFlags("SA"), pkttest.Ack(1), pkttest.MSS(mss), pkttest.TTL(3))},
			{name: "SYN with data", sum: 16,
				out: pkttest.TCP(inside, remote, pkttest.SYN, pkttest.Payload(odd)),
				in:  pkttest.TCP(remote, outside, pkttest.ACK, pkttest.Payload(odd), pkttest.Urgent(7))},
			{name: "datagram", sum: 6,
				out: pkttest.UDP(inside, remote, odd, pkttest.TTL(1)), in: pkttest.UDP(remote, outside, odd, pkttest.TOS(3))},
			{name: "empty datagram", sum: 6, out: pkttest.UDP(inside, remote, ""), in: pkttest.UDP(remote, outside, "")},
			{name: "datagram without checksum", sum: 6, zero: true,
				out: pkttest.UDP(inside, remote, odd, pkttest.NoChecksum()), in: pkttest.UDP(remote, outside, odd, pkttest.NoChecksum())},
			{name: "IP options", sum: 6, grown: 4,
				out: pkttest.UDP(inside, remote, odd, pkttest.IPOptions(7, 4, 4, 0)), in: pkttest.UDP(remote, outside, odd, pkttest.IPOptions(1, 1, 1, 1))},
		} {
			if f.name == "IPv6" && (tc.zero || tc.grown > 0) {
				continue // IPv4 only
			}
			t.Run(f.name+" "+tc.name, func(t *testing.T) {
				b := newBed(t, oneVM(8))
				port := func(at int) []int { return span(f.l4+tc.grown+at, f.l4+tc.grown+at+2) }
				may := func(addr []int, portAt int) []int {
					at := append(append(append([]int{}, f.ipSum...), addr...), port(portAt)...)
					if !tc.zero {
						at = append(at, port(tc.sum)...)
					}
					return at
				}
				check := func(before, after []byte, allowed []int) {
					diff := pkttest.Diff(before, after)
					require.NotEmpty(t, diff)
					assert.Subset(t, allowed, diff)
					pkttest.Check(t, after, pkttest.ChecksumsOK())
				}
				sent := append([]byte(nil), tc.out...)
				require.Equal(t, flow.Forward, b.Outbound(b.now, sent).Action)
				check(tc.out, sent, may(f.src, 0))
				pkttest.Check(t, sent, pkttest.Src(outside), pkttest.Dst(remote))

				got := append([]byte(nil), tc.in...)
				require.Equal(t, flow.Forward, b.Inbound(b.now, got).Action)
				check(tc.in, got, may(f.dst, 2))
				pkttest.Check(t, got, pkttest.Src(remote), pkttest.Dst(inside))
				if tc.zero {
					pkttest.Check(t, sent, pkttest.NoChecksum())
					pkttest.Check(t, got, pkttest.NoChecksum())
				}
			})
		}
	}
}

// The transport checksums worked out by hand, where the sum is zero among them.
func TestNAT_H3_SumsOfZero(t *testing.T) {
	for _, tc := range []struct {
		name     string
		pkt      []byte
		ports    int    // how many are taken before, to get the port of the vector
		before   string // transport header and data
		after    string
		frontend string
	}{
		{"UDP", pkttest.UDP("10.0.0.4:4242", "198.51.100.7:53", "hello"), 0,
			"10920035000d76fc68656c6c6f", "04000035000d518768656c6c6f", frontend},
		{"UDP whose sum becomes zero", pkttest.UDP("10.0.0.4:4242", "198.51.100.7:53", "\x95\x5f"), 0,
			"10920035000a2575955f", "04000035000affff955f", frontend},
		{"UDP without checksum", pkttest.UDP("10.0.0.4:4242", "198.51.100.7:53", "hello", pkttest.NoChecksum()), 0,
			"10920035000d000068656c6c6f", "04000035000d000068656c6c6f", frontend},
		{"TCP whose sum becomes zero", pkttest.TCP("10.0.0.4:40000", "198.51.100.7:443", pkttest.SYN, pkttest.Seq(0x48f0), pkttest.Window(64240)), 1,
			"9c4001bb000048f0000000005002faf099c70000", "040101bb000048f0000000005002faf000000000", frontend},
		{"UDP over IPv6", pkttest.UDP("[fd00::4]:4242", "[2001:db8:5::7]:53", "hello"), 0,
			"10920035000d807168656c6c6f", "04000035000d5c3068656c6c6f", frontend6},
		{"UDP over IPv6 whose sum becomes zero", pkttest.UDP("[fd00::4]:4242", "[2001:db8:5::7]:53", "\xa0\x08"), 0,
			"10920035000a2441a008", "04000035000affffa008", frontend6},
		{"TCP over IPv6", pkttest.TCP("[fd00::4]:40000", "[2001:db8:5::7]:443", pkttest.SYN, pkttest.Seq(1), pkttest.Window(64240)), 1,
			"9c4001bb00000001000000005002faf0ec2b0000", "040101bb00000001000000005002faf053980000", frontend6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			if tc.ports == 1 {
				b.opens("tcp", vmA+":9", serverA+":443")
				b.opens("tcp", socket(vmA6, 9), socket(serverA6, 443))
			}
			l4 := 20
			if tc.frontend == frontend6 {
				l4 = 40
			}
			original := append([]byte(nil), tc.pkt...)
			require.Equal(t, tc.before, hex.EncodeToString(tc.pkt[l4:]))
			require.Equal(t, flow.Forward, b.Outbound(0, tc.pkt).Action)
			assert.Equal(t, tc.after, hex.EncodeToString(tc.pkt[l4:]))

			// The same bytes as a reply: swap the ends and see the original's sum return.
			reply := mirror(tc.pkt)
			require.Equal(t, flow.Forward, b.Inbound(0, reply).Action)
			assert.Equal(t, original, mirror(reply))
		})
	}
}

// mirror returns pkt with its ends exchanged, which no checksum notices.
func mirror(pkt []byte) []byte {
	m := append([]byte(nil), pkt...)
	at, size, l4 := 12, 4, 20
	if pkt[0]>>4 == 6 {
		at, size, l4 = 8, 16, 40
	}
	copy(m[at:], pkt[at+size:at+2*size])
	copy(m[at+size:], pkt[at:at+size])
	copy(m[l4:], pkt[l4+2:l4+4])
	copy(m[l4+2:], pkt[l4:l4+2])
	return m
}

// Outbound, mirrored and inbound again a packet is what it was, corrupt or not:
// a wrong checksum stays wrong by as much as it was.
func TestNAT_H4_CorruptInEquallyCorruptOut(t *testing.T) {
	for _, end := range [][4]string{{vmA + ":5000", serverA + ":53", frontend + ":1024"}, {socket(vmA6, 5000), socket(serverA6, 53), socket(frontend6, 1024)}} {
		b := newBed(t, oneVM(8))
		b.opens("udp", end[0], end[1])
		b.dials(end[0], end[1])
		for _, p := range []packet{
			{proto: protoUDP, payload: "x"},
			{proto: protoUDP, payload: "x", corrupt: true},
			{proto: protoTCP, flags: flow.ACK, seq: 1001, ack: 5001, payload: "odd"},
			{proto: protoTCP, flags: flow.ACK, seq: 1001, ack: 5001, payload: "odd", corrupt: true},
			{proto: protoTCP, flags: flow.ACK | flow.FIN, seq: 1001, ack: 5001, corrupt: true},
			{proto: protoTCP, flags: flow.RST, seq: 1001, corrupt: true},
		} {
			p.src, p.dst = netip.MustParseAddrPort(end[0]), netip.MustParseAddrPort(end[1])
			pkt := p.bytes()
			require.Equal(t, flow.Forward, b.Outbound(b.now, pkt).Action)
			want := p
			want.src = netip.MustParseAddrPort(end[2])
			assert.Empty(t, sameAs(pkt, p, want))
			if p.corrupt {
				pkttest.Check(t, pkt, pkttest.BadChecksum())
			}
			reply := mirror(pkt)
			require.Equal(t, flow.Forward, b.Inbound(b.now, reply).Action)
			assert.Equal(t, p.bytes(), mirror(reply), "%v", p)
		}
		for s := range b.Sessions() {
			if s.Proto == protoTCP {
				assert.Equal(t, "established", s.State, "corrupt FIN and RST prove nothing")
			}
		}
	}
}

// Bytes behind the IP length are nobody's business.
func TestNAT_M8_TrailerUntouched(t *testing.T) {
	for _, end := range [][3]string{{vmA + ":5000", serverA + ":53", frontend + ":1024"}, {socket(vmA6, 5000), socket(serverA6, 53), socket(frontend6, 1024)}} {
		b := newBed(t, oneVM(8))
		const trailer = "\x01\x02padding\xff"
		pkt := append(pkttest.UDP(end[0], end[1], "odd"), trailer...)
		n := len(pkt) - len(trailer)
		require.Equal(t, flow.Forward, b.Outbound(0, pkt).Action)
		assert.Equal(t, trailer, string(pkt[n:]))
		pkttest.Check(t, pkt[:n], pkttest.Src(end[2]), pkttest.ChecksumsOK())
		reply := append(pkttest.UDP(end[1], end[2], ""), trailer...)
		require.Equal(t, flow.Forward, b.Inbound(0, reply).Action)
		assert.Equal(t, trailer, string(reply[len(reply)-len(trailer):]))
	}
}
