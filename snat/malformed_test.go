package snat_test

// What the parser refuses, at the doors: malformed packets of every row, from
// either side, singly and in batches, are dropped for the reason that the parser
// has found, and nothing else happens.

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func TestMalformedAtTheDoors(t *testing.T) {
	type field = pkttest.Field
	// Each spoils a good packet from src to dst; nil if the row is of the other
	// family.
	type spoil struct {
		row  string
		make func(src, dst string, v6 bool) []byte
		want flow.Reason
	}
	set := func(b []byte, at int, bytes ...byte) []byte { copy(b[at:], bytes); return b }
	v4 := func(make func(src, dst string) []byte) func(string, string, bool) []byte {
		return func(src, dst string, v6 bool) []byte {
			if v6 {
				return nil
			}
			return make(src, dst)
		}
	}
	v6 := func(make func(src, dst string) []byte) func(string, string, bool) []byte {
		return func(src, dst string, is6 bool) []byte {
			if !is6 {
				return nil
			}
			return make(src, dst)
		}
	}
	header := func(change func(h []byte)) func(string, string, bool) []byte { // of IPv4, checksum made true
		return v4(func(src, dst string) []byte { return odd(pkttest.UDP(src, dst, "x"), change) })
	}
	tcp := func(at int, b ...byte) func(string, string, bool) []byte {
		return func(src, dst string, _ bool) []byte {
			pkt := pkttest.TCP(src, dst, pkttest.SYN)
			set(l4Of(pkt), at, b...)
			return pkt
		}
	}
	udp := func(at int, b ...byte) func(string, string, bool) []byte {
		return func(src, dst string, _ bool) []byte {
			pkt := pkttest.UDP(src, dst, "xy")
			set(l4Of(pkt), at, b...)
			return pkt
		}
	}
	extended := func(fields ...field) func(string, string, bool) []byte {
		return v6(func(src, dst string) []byte { return pkttest.UDP(src, dst, "x", fields...) })
	}
	plain := func(proto uint8, n int) func(string, string, bool) []byte {
		return func(src, dst string, _ bool) []byte {
			return pkttest.IP(hostOf(src), hostOf(dst), proto, make([]byte, n))
		}
	}
	options := pkttest.Extension(60, 1, 4, 0, 0, 0, 0)
	hop := pkttest.Extension(0, 5, 2, 0, 0, 1, 0)
	for _, s := range []spoil{
		{"M1 nothing", func(string, string, bool) []byte { return []byte{} }, flow.ReasonShort},
		{"M1 one byte", func(string, string, bool) []byte { return []byte{0x45} }, flow.ReasonShort},
		{"M2 version 0", func(src, dst string, _ bool) []byte { return set(pkttest.UDP(src, dst, "x"), 0, 0x05) }, flow.ReasonBadVersion},
		{"M2 version 15", func(src, dst string, _ bool) []byte { return set(pkttest.UDP(src, dst, "x"), 0, 0xf5) }, flow.ReasonBadVersion},
		{"M3 short", func(src, dst string, _ bool) []byte { return pkttest.UDP(src, dst, "x")[:19] }, flow.ReasonShort},
		{"M4", header(func(h []byte) { h[0] = 0x44 }), flow.ReasonBadIHL},
		{"M5", header(func(h []byte) { h[0] = 0x4f }), flow.ReasonBadIHL},
		{"M6", header(func(h []byte) { h[2], h[3] = 0x05, 0xdc }), flow.ReasonBadLength},
		{"M7", header(func(h []byte) { h[2], h[3] = 0, 19 }), flow.ReasonBadLength},
		{"M9", v4(func(src, dst string) []byte { return set(pkttest.UDP(src, dst, "x"), 8, 1) }), flow.ReasonIPChecksum},
		{"M21 loose", v4(func(src, dst string) []byte {
			return pkttest.UDP(src, dst, "x", pkttest.IPOptions(131, 7, 4, 10, 0, 0, 9, 0))
		}), flow.ReasonSourceRoute},
		{"M21 strict", v4(func(src, dst string) []byte {
			return pkttest.UDP(src, dst, "x", pkttest.IPOptions(137, 7, 4, 10, 0, 0, 9, 0))
		}), flow.ReasonSourceRoute},
		{"M22", v4(func(src, dst string) []byte { return pkttest.UDP(src, dst, "x", pkttest.IPOptions(7, 0, 0, 0)) }), flow.ReasonBadOption},
		{"M33 GRE", plain(47, 20), flow.ReasonUnsupportedProto},
		{"M33 SCTP", plain(132, 20), flow.ReasonUnsupportedProto},
		{"M33 UDP-Lite", plain(136, 20), flow.ReasonUnsupportedProto},
		{"M33 reserved", plain(255, 20), flow.ReasonUnsupportedProto},
		{"M34 IPv4 within", plain(4, 40), flow.ReasonUnsupportedProto},
		{"M34 IPv6 within", plain(41, 60), flow.ReasonUnsupportedProto},
		{"M35", func(src, dst string, is6 bool) []byte {
			return pkttest.IP(hostOf(src), hostOf(dst), map[bool]uint8{false: 58, true: 1}[is6], make([]byte, 8))
		}, flow.ReasonProtoFamily},
		{"M36", plain(6, 19), flow.ReasonTCPShort},
		{"M37", tcp(12, 0x40), flow.ReasonTCPOffset},
		{"M38", tcp(12, 0x60), flow.ReasonTCPOffset},
		{"M40 none", tcp(13, 0), flow.ReasonTCPFlags},
		{"M40 SYN and FIN", tcp(13, 3), flow.ReasonTCPFlags},
		{"M40 SYN and RST", tcp(13, 6), flow.ReasonTCPFlags},
		{"M40 FIN alone", tcp(13, 1), flow.ReasonTCPFlags},
		{"M40 Christmas", tcp(13, 0xff), flow.ReasonTCPFlags},
		{"M48", plain(17, 7), flow.ReasonUDPShort},
		{"M49", udp(4, 0, 7), flow.ReasonUDPLength},
		{"M50", udp(4, 0, 11), flow.ReasonUDPLength},
		{"M65", v6(func(src, dst string) []byte { return set(pkttest.UDP(src, dst, "x"), 4, 0, 10) }), flow.ReasonBadLength},
		{"M66 no length", v6(func(src, dst string) []byte { return set(pkttest.UDP(src, dst, "x"), 4, 0, 0) }), flow.ReasonBadLength},
		{"M66 jumbogram", v6(func(src, dst string) []byte {
			pkt := pkttest.UDP(src, dst, "x", pkttest.Extension(0, 194, 4, 0, 1, 0, 0))
			return set(pkt, 4, 0, 0)
		}), flow.ReasonJumbo},
		{"M67 order", extended(hop, options), flow.ReasonExtOrder},
		{"M67 length", extended(options, pkttest.Patch(41, 200)), flow.ReasonExtLength},
		{"M67 limit", extended(slices.Repeat([]field{options}, 9)...), flow.ReasonExtLimit},
		{"M68", extended(pkttest.Extension(43, 0, 1, 0, 0, 0, 0)), flow.ReasonRoutingHeader},
		{"E6", extended(pkttest.Extension(0, 0x9e, 4, 0, 0, 0, 0)), flow.ReasonHopOption},
		{"E7 authentication", plain(51, 24), flow.ReasonUnsupportedProto},
		{"E8", plain(59, 8), flow.ReasonUnsupportedProto},
	} {
		var cases []hostile
		for name, h := range byFamily {
			for from, end := range [][2]string{{socket(h.a, 5000), socket(h.s, 443)}, {socket(h.s, 443), socket(h.f, firstPort)}} {
				if pkt := s.make(end[0], end[1], name == "v6"); pkt != nil {
					cases = append(cases, hostile{s.row + " " + name + " from " + flow.Side(from).String(), flow.Side(from), pkt, s.want})
				}
			}
		}
		refused(t, cases)
	}
}

// hostOf returns the address of a socket.
func hostOf(socket string) string { return netip.MustParseAddrPort(socket).Addr().String() }
