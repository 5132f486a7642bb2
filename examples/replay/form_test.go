package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// TestReplacedEndpoints compares packets with replaced endpoints with such that
// are built with them from the start, checksums computed in full.
func TestReplacedEndpoints(t *testing.T) {
	const long = "an odd length of payload."
	builders := map[string]func(from, to string) []byte{
		"TCP": func(from, to string) []byte {
			return pkttest.TCP(from, to, pkttest.TCPFlags("A"), pkttest.Seq(7), pkttest.Payload(long))
		},
		"UDP":             func(from, to string) []byte { return pkttest.UDP(from, to, long) },
		"UDP unsummed":    func(from, to string) []byte { return pkttest.UDP(from, to, long, pkttest.NoChecksum()) },
		"other protocols": func(from, to string) []byte { return pkttest.IP(host1(from), host1(to), 47, []byte(long)) },
		"damaged": func(from, to string) []byte {
			return pkttest.TCP(from, to, pkttest.TCPFlags("A"), pkttest.Patch(30, 0xaa))
		},
	}
	for name, build := range builders {
		for _, family := range [][4]string{
			{a + ":4000", remote + ":80", front + ":65535", "192.0.2.255:1"},
			{"[fd00::4]:4000", "[2001:db8:5::7]:80", "[2001:db8::7]:65535", "[ff00:ffff::]:1"},
		} {
			if name == "damaged" && family[0][0] == '[' {
				continue
			}
			b := build(family[0], family[1])
			f := locate(b)
			src, dst := f.endpoints(b)
			assert.Equal(t, netip.MustParseAddrPort(family[0]).Addr(), src.Addr(), name)
			assert.Equal(t, netip.MustParseAddrPort(family[1]).Addr(), dst.Addr(), name)
			original := bytes.Clone(b)
			f.setSource(b, netip.MustParseAddrPort(family[2]))
			assert.Equal(t, build(family[2], family[1]), b, "%s from %s", name, family[2])
			f.setDestination(b, netip.MustParseAddrPort(family[3]))
			assert.Equal(t, build(family[2], family[3]), b, "%s to %s", name, family[3])
			f.setSource(b, src)
			f.setDestination(b, dst)
			assert.Equal(t, original, b, name)
		}
	}
}

// host1 returns the address of an endpoint.
func host1(endpoint string) string { return netip.MustParseAddrPort(endpoint).Addr().String() }

// Echo identifiers take the place of both ports; the checksum of ICMPv6 covers
// addresses, that of ICMP does not.
func TestReplacedEchoEndpoints(t *testing.T) {
	for _, c := range [][4]string{{a, remote, front}, {a6, remote6, front6}} {
		b := pkttest.ICMPEcho(c[0], c[1], 7, 1)
		f := locate(b)
		src, dst := f.endpoints(b)
		assert.Equal(t, uint16(7), src.Port())
		assert.Equal(t, uint16(7), dst.Port())
		f.setSource(b, netip.AddrPortFrom(netip.MustParseAddr(c[2]), 9))
		assert.Equal(t, pkttest.ICMPEcho(c[2], c[1], 9, 1), b)
	}
}

func TestLocateFindsTheTransport(t *testing.T) {
	v6 := pkttest.UDP("[fd00::4]:4000", "[2001:db8:5::7]:53", "query")
	fragments := pkttest.Fragments(pkttest.UDP(a+":4000", remote+":53", string(make([]byte, 100))), 48, 9)
	fragments6 := pkttest.Fragments(pkttest.UDP("[fd00::4]:4000", "[2001:db8:5::7]:53", string(make([]byte, 100))), 48, 9)
	for name, c := range map[string]struct {
		b    []byte
		want form
	}{
		"plain":             {pkttest.UDP(a+":1", remote+":2", "x"), form{v4: true, length: 29, proto: protoUDP, srcPort: 20, dstPort: 22, sum: 26, pseudo: true}},
		"padded":            {append(pkttest.UDP(a+":1", remote+":2", "x"), make([]byte, 17)...), form{v4: true, length: 29, proto: protoUDP, srcPort: 20, dstPort: 22, sum: 26, pseudo: true}},
		"options":           {pkttest.UDP(a+":1", remote+":2", "x", pkttest.IPOptions(1, 1, 1, 0)), form{v4: true, length: 33, proto: protoUDP, srcPort: 24, dstPort: 26, sum: 30, pseudo: true}},
		"IPv6":              {v6, form{v6: true, length: 53, proto: protoUDP, srcPort: 40, dstPort: 42, sum: 46, pseudo: true}},
		"extensions":        {pkttest.UDP("[fd00::4]:1", "[2001:db8:5::7]:2", "x", pkttest.Extension(60, make([]byte, 14)...), pkttest.Extension(0, make([]byte, 6)...)), form{v6: true, length: 73, proto: protoUDP, srcPort: 64, dstPort: 66, sum: 70, pseudo: true}},
		"first fragment":    {fragments[0], form{v4: true, length: 68, proto: protoUDP, srcPort: 20, dstPort: 22, sum: 26, pseudo: true, id: 4, idLen: 2}},
		"other fragment":    {fragments[1], form{v4: true, length: 68, id: 4, idLen: 2}},
		"first of IPv6":     {fragments6[0], form{v6: true, length: 96, proto: protoUDP, srcPort: 48, dstPort: 50, sum: 54, pseudo: true, id: 44, idLen: 4}},
		"other of IPv6":     {fragments6[1], form{v6: true, length: 96, id: 44, idLen: 4}},
		"header too long":   {pkttest.UDP(a+":1", remote+":2", "x", pkttest.Patch(0, 0x4f)), form{v4: true, length: 29}},
		"length too long":   {pkttest.UDP(a+":1", remote+":2", "x", pkttest.Patch(3, 30)), form{v4: true, length: 29}},
		"TCP too short":     {pkttest.IP(a, remote, protoTCP, make([]byte, 19)), form{v4: true, length: 39}},
		"extension too far": {pkttest.UDP("[fd00::4]:1", "[2001:db8:5::7]:2", "x", pkttest.Extension(60, make([]byte, 6)...), pkttest.Patch(41, 9)), form{v6: true, length: 57}},
		"no header at all":  {[]byte{0x45, 0, 0}, form{length: 3}},
		"no version":        {make([]byte, 60), form{length: 60}},
	} {
		assert.Equal(t, c.want, locate(c.b), name)
	}
}

// A translator that updates checksums makes FFFF into 0000, and may number
// fragments anew. Nothing else is canonical.
func TestCanonicalForms(t *testing.T) {
	zero := func(b []byte, at int) []byte { // makes a checksum word zero by way of the word before it
		b = bytes.Clone(b)
		word := b[at-2 : at]
		sum := uint32(binary.BigEndian.Uint16(b[at:])) + uint32(binary.BigEndian.Uint16(word))
		binary.BigEndian.PutUint16(word, uint16(sum+sum>>16))
		b[at], b[at+1] = 0, 0
		return b
	}
	patched := func(b []byte, at int, with ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], with)
		return b
	}
	tcp := pkttest.TCP(a+":4000", remote+":80", pkttest.TCPFlags("A"), pkttest.Seq(7))
	udp := pkttest.UDP(a+":4000", remote+":53", "query")
	header := zero(zero(tcp, 10), 36) // TTL and protocol change, which is all the same here
	fragment := pkttest.Fragments(pkttest.UDP(a+":4000", remote+":53", string(make([]byte, 100))), 48, 9)[0]
	renumbered := pkttest.Fragments(pkttest.UDP(a+":4000", remote+":53", string(make([]byte, 100))), 48, 77)[0]
	fragment6 := pkttest.Fragments(pkttest.UDP("[fd00::4]:4000", "[2001:db8:5::7]:53", string(make([]byte, 100))), 48, 9)[1]
	for name, c := range map[string]struct {
		sent, back []byte
		want       likeness
	}{
		"the same":                     {tcp, tcp, identical},
		"another TTL":                  {tcp, patched(tcp, 8, 63), different},
		"header checksum FFFF":         {patched(header, 10, 0xff, 0xff), header, canonical},
		"header checksum half FFFF":    {patched(header, 10, 0xff, 0), header, different},
		"UDP checksum appears":         {patched(udp, 26, 0, 0), patched(udp, 26, 0xff, 0xff), different},
		"UDP checksum vanishes":        {patched(udp, 26, 0xff, 0xff), patched(udp, 26, 0, 0), different},
		"identification":               {udp, patched(udp, 4, 1, 1), different},
		"fragment renumbered":          {fragment, renumbered, canonical},
		"fragment with a wrong sum":    {fragment, patched(fragment, 4, 0, 77), different},
		"IPv6 fragment renumbered":     {fragment6, patched(fragment6, 44, 1, 2, 3, 4), canonical},
		"IPv6 fragment moved":          {fragment6, patched(fragment6, 42, 1), different},
		"TCP checksum FFFF":            {patched(tcp, 36, 0xff, 0xff), patched(tcp, 36, 0, 0), canonical},
		"TCP checksum and urgent word": {patched(tcp, 36, 0xff, 0xff, 1), patched(tcp, 36, 0, 0), different},
	} {
		f := locate(c.sent)
		assert.Equal(t, c.want, f.compare(c.sent, c.back), name)
	}
}

// The translator makes these canonical.
func TestNegativeZeroComesBackCanonical(t *testing.T) {
	packet := pkttest.TCP(a+":4000", remote+":80", pkttest.TCPFlags("S"), pkttest.DF(false))
	id := packet[4:6]
	binary.BigEndian.PutUint16(id, binary.BigEndian.Uint16(packet[10:])) // the sum is now complete
	packet[10], packet[11] = 0, 0
	require.Equal(t, 1, replayJSON(t, captureOf(t, packet)).Roundtrip.Identical)
	packet[10], packet[11] = 0xff, 0xff
	d := replayJSON(t, captureOf(t, packet))
	assert.Equal(t, 1, d.Verdicts.Forward)
	assert.Equal(t, 1, d.Roundtrip.Canonical)
}
