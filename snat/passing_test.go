package snat_test

// Rows of the requirements about packets that are odd but pass: translated, and
// otherwise as they are. And about packets that are cut anywhere: dropped.

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// passes demands that both packets of a flow that make builds pass: translated,
// they are what make builds for the other ends.
func passes(t *testing.T, h realm, make func(src, dst string) []byte) {
	t.Helper()
	b := newBed(t, virtual(8))
	inside, outside, remote := socket(h.a, 5000), socket(h.f, firstPort), socket(h.s, 443)
	b.forwards(flow.Inside, make(inside, remote), make(outside, remote))
	b.forwards(flow.Outside, make(remote, outside), make(remote, inside))
}

// odd returns pkt after a change of its IPv4 header, whose checksum is made true.
func odd(pkt []byte, change func(h []byte)) []byte {
	change(pkt)
	fixHeader(pkt)
	return pkt
}

// Bytes after the packet stay, of an echo too, and belong to no checksum.
func TestNAT_M8_EchoWithTrailer(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		with := func(pkt []byte) []byte { return append(pkt, "\x00\x00trailer\xff"...) }
		b.forwards(flow.Inside, with(r.ping(r.a, r.s, 7, 1)), with(r.ping(r.f, r.s, firstPort, 1)))
		b.forwards(flow.Outside, with(r.pong(r.s, r.f, firstPort, 1)), with(r.pong(r.s, r.a, 7, 1)))
	})
}

// A header checksum stored as FFFF where it is 0 is right, and leaves in its
// canonical form.
func TestNAT_M10_NegativeZero(t *testing.T) {
	h := byFamily["v4"]
	for id := range 65536 {
		pkt := odd(pkttest.UDP(socket(h.a, 5000), socket(h.s, 53), "x"), func(b []byte) { binary.BigEndian.PutUint16(b[4:], uint16(id)) })
		if binary.BigEndian.Uint16(pkt[10:]) != 0 {
			continue
		}
		b := newBed(t, oneVM(8))
		pkt[10], pkt[11] = 0xff, 0xff
		b.forwards(flow.Inside, pkt, pkttest.UDP(socket(h.f, firstPort), socket(h.s, 53), "x", pkttest.ID(uint16(id))))
		return
	}
	t.Fatal("no identification gives a sum of zero")
}

func TestNAT_M12_ReservedFlagStays(t *testing.T) {
	passes(t, byFamily["v4"], func(src, dst string) []byte {
		return odd(pkttest.UDP(src, dst, "x"), func(b []byte) { b[6] |= 0x80 })
	})
}

// A fragment may say that it must not be fragmented, and it stays so.
func TestNAT_M13_FragmentsWithDF(t *testing.T) {
	h := byFamily["v4"]
	b := newBed(t, virtual(8))
	var frags [][]byte
	for _, f := range pkttest.Fragments(pkttest.UDP(socket(h.a, 5000), socket(h.s, 53), strings.Repeat("x", 60)), 32, 7) {
		frags = append(frags, odd(f, func(b []byte) { b[6] |= 0x40 }))
	}
	left := b.through(flow.Inside, frags[1], frags[0], frags[2])
	require.Len(t, left, 3)
	for _, f := range left {
		assert.Equal(t, byte(0x40), f[6]&0x40)
		pkttest.Check(t, f, pkttest.ChecksumsOK())
	}
}

func TestNAT_M23_OptionsStay(t *testing.T) {
	for _, opts := range [][]byte{
		{7, 7, 4, 0, 0, 0, 0, 0}, {68, 8, 5, 0, 0, 0, 0, 0}, {148, 4, 0, 0}, {1, 1, 1, 0}, slices.Repeat([]byte{1}, 40),
	} {
		passes(t, byFamily["v4"], func(src, dst string) []byte {
			return pkttest.UDP(src, dst, "x", pkttest.IPOptions(opts...))
		})
	}
}

// bothFamilies runs passes for both.
func bothFamilies(t *testing.T, make func(src, dst string) []byte) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) { passes(t, h, make) })
	}
}

// l4Of is where the transport header is.
func l4Of(pkt []byte) []byte {
	if pkt[0]>>4 == 6 {
		return pkt[40:]
	}
	return pkt[20:]
}

func TestNAT_M41_OddSYNs(t *testing.T) {
	for _, fields := range [][]pkttest.Field{{pkttest.TCPFlags("S"), pkttest.Payload("fast open")}, {pkttest.TCPFlags("SEC")}} {
		bothFamilies(t, func(src, dst string) []byte { return pkttest.TCP(src, dst, fields...) })
	}
	bothFamilies(t, func(src, dst string) []byte { // AE and reserved bits
		pkt := pkttest.TCP(src, dst, pkttest.SYN)
		l4Of(pkt)[12] |= 0xf
		pkttest.FixChecksums(pkt)
		return pkt
	})
}

func TestNAT_M42_BrokenOptionsStay(t *testing.T) {
	for _, opts := range []string{"\x03\x00\x07\x00", "\x03\x01\x07\x00", "\x01\x01\x01\x03", "\x02\x09\x05\xb4"} {
		bothFamilies(t, func(src, dst string) []byte {
			pkt := pkttest.TCP(src, dst, pkttest.SYN, pkttest.Payload(opts))
			l4 := l4Of(pkt) // the payload becomes an option
			was := []byte{l4[12], l4[13]}
			l4[12] = 6 << 4
			binary.BigEndian.PutUint16(l4[16:], updated(binary.BigEndian.Uint16(l4[16:]), was, l4[12:14]))
			return pkt
		})
	}
}

// Bytes between the end of a UDP datagram and that of its packet stay (they may be
// UDP options), and its checksum does not cover them.
func TestNAT_M51_SurplusStays(t *testing.T) {
	for _, surplus := range []string{"\x01", "\x02\x04\xab\xcd", strings.Repeat("\xff", 100)} {
		bothFamilies(t, func(src, dst string) []byte {
			pkt := append(pkttest.UDP(src, dst, "odd"), surplus...)
			if pkt[0]>>4 == 6 {
				binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
				return pkt
			}
			return odd(pkt, func(b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(len(b))) })
		})
	}
}

// A wrong UDP checksum passes as wrong as it was, and the flow is one.
func TestNAT_M54_WrongStaysWrong(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			inside, outside, remote := socket(h.a, 5000), socket(h.f, firstPort), socket(h.s, 53)
			damaged := func(pkt []byte) []byte { pkt[len(pkt)-1] ^= 0x20; return pkt }
			b.forwards(flow.Inside, damaged(pkttest.UDP(inside, remote, "query")), damaged(pkttest.UDP(outside, remote, "query")))
			b.forwards(flow.Outside, damaged(pkttest.UDP(remote, outside, "answer")), damaged(pkttest.UDP(remote, inside, "answer")))
		})
	}
}

// Packets of all kinds, cut at any byte, are dropped for a reason and leave nothing
// behind.
func TestNAT_M3_CutAnywhere(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := carrying()
		c.Fragments.Mode = snat.FragmentsVirtual
		b := newBed(t, c)
		b.seldom = true
		inside, outside, remote := socket(r.a, 5000), socket(r.f, firstPort), socket(r.s, 443)
		b.opens("udp", inside, remote)
		b.dials(inside, remote)
		b.out(r.ping(r.a, r.s, 5000, 1))
		left := pkttest.UDP(outside, remote, "x")
		came := pkttest.UDP(remote, inside, "x")
		deep := []pkttest.Field{pkttest.TTL(64)}
		if r.name == "v6" {
			deep = []pkttest.Field{pkttest.Extension(60, 1, 4, 0, 0, 0, 0), pkttest.Extension(43, 4, 0, 0, 0, 0, 0), pkttest.Extension(0, 5, 2, 0, 0, 1, 0)}
		}
		e := [3]uint32{uint32(r.unreachable)}
		before := sessions(b)
		for from, pkts := range [][][]byte{
			{pkttest.TCP(inside, remote, pkttest.SYN, pkttest.MSS(1460)), pkttest.UDP(socket(r.a, 1), remote, "x", deep...), r.ping(r.a, r.s, 9, 1),
				report(e, r.a, r.s, came, len(came)), pkttest.Fragments(pkttest.UDP(inside, remote, strings.Repeat("x", 60)), 32, 7)[1]},
			{pkttest.TCP(remote, outside, pkttest.ACK, pkttest.Payload("x")), pkttest.UDP(remote, outside, "x", deep...), r.pong(r.s, r.f, firstPort, 1),
				report(e, r.rx, r.f, left, len(left)), pkttest.Fragments(pkttest.UDP(remote, outside, strings.Repeat("x", 60)), 32, 7)[0]},
		} {
			for i, pkt := range pkts {
				for n := range pkt {
					cut := slices.Clip(clone(pkt[:n]))
					v := b.send(flow.Side(from), cut)
					require.Equal(t, flow.Drop, v.Action, "packet %d from %v, %d bytes", i, flow.Side(from), n)
					require.NotEqual(t, flow.ReasonNone, v.Reason)
					require.Equal(t, string(pkt[:n]), string(cut), "dropped packets are left alone")
				}
			}
		}
		b.Check()
		assert.Equal(t, before, sessions(b))
		assert.Zero(t, b.Stats().Fragments)
	})
}

// Extension headers before the Fragment header are in every fragment, those behind
// it in the first; a chain that does not end there is refused.
func TestNAT_G6_ChainsInFragments(t *testing.T) {
	h := byFamily["v6"]
	hop, options := pkttest.Extension(0, 5, 2, 0, 0, 1, 0), []byte{17, 0, 1, 4, 0, 0, 0, 0}
	datagram := func(src string) []byte { // with Destination Options in front, part of what is cut
		pkt := pkttest.UDP(src, socket(h.s, 53), strings.Repeat("x", 80))
		pkt = slices.Insert(pkt, 40, options...)
		pkt[6] = 60
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		return pkt
	}
	pieces := func(src string, size int) (frags [][]byte) {
		whole := datagram(src)[40:]
		for at := 0; at < len(whole); at += size {
			end := min(at+size, len(whole))
			f := pkttest.IP(strings.Trim(strings.TrimSuffix(src, src[strings.LastIndex(src, ":"):]), "[]"), h.s, 60, whole[at:end], hop)
			header := []byte{60, 0, byte(at >> 8), byte(at), 0, 0, 0, 9}
			if end < len(whole) {
				header[3] |= 1
			}
			f = slices.Insert(f, 48, header...)
			f[40] = 44
			binary.BigEndian.PutUint16(f[4:], uint16(len(f)-40))
			frags = append(frags, f)
		}
		return frags
	}
	b := newBed(t, virtual(8))
	frags, want := pieces(socket(h.a, 5000), 40), pieces(socket(h.f, firstPort), 40)
	left := b.through(flow.Inside, frags[2], frags[1], frags[0])
	require.Len(t, left, 3)
	for i, f := range left {
		id := f[48+4 : 48+8]
		require.NotEqual(t, []byte{0, 0, 0, 9}, id)
		copy(id, want[i][52:56])
		require.Equal(t, want[i], f, "fragment %d", i)
	}
	for _, size := range []int{8, 16} { // within the chain; after it, but within UDP's header or not
		b := newBed(t, virtual(8))
		wantFirst := map[int]string{8: "drop frag_tiny", 16: "UDP"}[size]
		assert.Contains(t, b.out(pieces(socket(h.a, 5000), size)[0]), wantFirst)
	}
}

// A RST that matches what its receiver has acknowledged ends the connection though
// later data has been seen; one behind the window does not, whatever it acknowledges.
func TestNAT_K7_ResetAndGaps(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.far("PA 100", irs+101, iss+1) // what is before it was lost
		k.far("R", irs+1, 0)
		k.is("reset")
	})
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.far("PA 1000", irs+1, iss+1)
		k.local("A", iss+1, irs+1001)
		for _, seq := range []uint32{irs, irs + 1, irs + 1000, 1<<32 - 1<<20} {
			k.far("R", seq, 0)
			k.far("RA", seq, iss+1)
			k.is("established")
		}
		k.far("R", irs+1001, 0)
		k.is("reset")
	})
}

// However a datagram is cut, its fragments are those of the translated one; damage
// in a later one stays what it was, since no checksum is computed anew.
func TestNAT_G7_EverySplit(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			inside, outside, remote := socket(h.a, 5000), socket(h.f, firstPort), socket(h.s, 443)
			payload := strings.Repeat("0123456789abcdef-", 12)
			for _, zero := range []bool{false, true} {
				var fields []pkttest.Field
				if zero {
					if name == "v6" {
						continue
					}
					fields = append(fields, pkttest.NoChecksum())
				}
				for size := 8; size < len(payload); size += 8 {
					frags := pkttest.Fragments(pkttest.UDP(inside, remote, payload, fields...), size, 1)
					want := pkttest.UDP(outside, remote, payload, fields...)
					last := frags[len(frags)-1]
					last[len(last)-1] ^= 0x55
					want[len(want)-1] ^= 0x55
					left := newBed(t, virtual(8)).through(flow.Inside, frags...)
					require.Equal(t, anonymous(want), assemble(t, left), "%d bytes each", size)
				}
			}
		})
	}
}
