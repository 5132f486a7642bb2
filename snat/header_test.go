package snat_test

// Rows of the requirements about headers that the byte-for-byte tests of
// rewriting do not show: what is special, and must not be noticed.

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// UDP without a checksum stays without one, in both directions and in fragments.
func TestNAT_H2_NoChecksumStaysNone(t *testing.T) {
	b := newBed(t, virtual(8))
	inside, outside, remote := socket(vmA, 5000), socket(frontend, firstPort), socket(serverA, 53)
	payload := "0123456789012345678901234567890123456789"
	for range 2 { // the first packet of a flow, and a later one
		b.forwards(flow.Inside, pkttest.UDP(inside, remote, payload, pkttest.NoChecksum()), pkttest.UDP(outside, remote, payload, pkttest.NoChecksum()))
		b.forwards(flow.Outside, pkttest.UDP(remote, outside, payload, pkttest.NoChecksum()), pkttest.UDP(remote, inside, payload, pkttest.NoChecksum()))
	}
	left := b.through(flow.Inside, pkttest.Fragments(pkttest.UDP(inside, remote, payload, pkttest.NoChecksum()), 24, 9)...)
	require.Len(t, left, 2)
	assert.Equal(t, anonymous(pkttest.UDP(outside, remote, payload, pkttest.NoChecksum())), assemble(t, left))
}

// SYN, FIN and RST with a wrong checksum pass as wrong as they are, from either
// side, and neither state nor time changes.
func TestNAT_H5_WrongChecksumProvesNothing(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		bad := []pkttest.Field{pkttest.BadChecksum()}
		for _, flags := range []string{"R", "FA", "S", "RA"} {
			came, sent := segment(k.remote, k.outside, flags, irs+1, iss+1, bad), segment(k.inside, k.remote, flags, iss+1, irs+1, bad)
			require.Equal(t, flow.Forward, k.Inbound(k.now, came).Action)
			pkttest.Check(t, came, pkttest.Dst(k.inside), pkttest.BadChecksum())
			require.Equal(t, flow.Forward, k.Outbound(k.now, sent).Action)
			pkttest.Check(t, sent, pkttest.Src(k.outside), pkttest.BadChecksum())
			k.is("established")
		}
		assert.Equal(t, uint64(8), k.Stats().BadChecksum)
		k.far("R", irs+1, 0)
		k.is("reset")
	})
}

// Packets that may not become fragments all have the same identification, as some
// stacks send them; none is taken for a copy or changed.
func TestNAT_H7_IdentificationOfWholePackets(t *testing.T) {
	for _, c := range []snat.Config{oneVM(8), virtual(8)} {
		b := newBed(t, c)
		inside, outside, remote := socket(vmA, 5000), socket(frontend, firstPort), socket(serverA, 53)
		for _, id := range []uint16{0, 0, 7, 7, 0xffff} {
			is := []pkttest.Field{pkttest.ID(id), pkttest.DF(true)}
			b.forwards(flow.Inside, pkttest.UDP(inside, remote, "same", is...), pkttest.UDP(outside, remote, "same", is...))
			b.forwards(flow.Outside, pkttest.UDP(remote, outside, "same", is...), pkttest.UDP(remote, inside, "same", is...))
		}
		assert.Equal(t, snat.FragmentStats{}, b.Stats().Fragments)
	}
}

// All that is not an address, a port or a checksum of them is left alone.
func TestNAT_H10_TheRestStays(t *testing.T) {
	eachTalk(t, oneVM(8), func(t *testing.T, k *talk) {
		ip := []pkttest.Field{pkttest.TOS(0xba), pkttest.TTL(7)}
		if k.inside[0] == '[' {
			ip = append(ip, pkttest.FlowLabel(0xabcde), pkttest.Extension(60, 1, 4, 0xde, 0xad, 0xbe, 0xef))
		} else {
			ip = append(ip, pkttest.ID(0xbeef), pkttest.DF(false), pkttest.IPOptions(7, 7, 4, 0, 0, 0, 0, 1))
		}
		with := func(more ...pkttest.Field) []pkttest.Field { return append(append([]pkttest.Field{}, ip...), more...) }
		k.local("SEC", iss, 0, with(pkttest.MSS(1400), pkttest.WScale(5), pkttest.Window(1234))...)
		k.far("SAE", irs, iss+1, with(pkttest.MSS(1300), pkttest.WScale(6), pkttest.Window(4321))...)
		k.local("A", iss+1, irs+1, with(pkttest.Window(77))...)
		k.local("PAUC 10", iss+1, irs+1, with(pkttest.Urgent(5))...)
		k.far("PAE 500", irs+1, iss+11, with(pkttest.Urgent(0xffff))...)
		for _, ecn := range []uint8{0, 1, 2, 3} {
			udp := with(pkttest.TOS(0xb8 | ecn))
			k.forwards(flow.Inside, pkttest.UDP(k.inside, k.remote, "odd", udp...), pkttest.UDP(k.outside, k.remote, "odd", udp...))
			k.forwards(flow.Outside, pkttest.UDP(k.remote, k.outside, "odd", udp...), pkttest.UDP(k.remote, k.inside, "odd", udp...))
		}
	})
}

// Behind extension headers checksums cover the upper layer's protocol and the
// final destination, which is the one in the header: a Routing header that is
// used up changes nothing, and one that is not does not pass.
func TestNAT_H11_ChecksumsBehindExtensions(t *testing.T) {
	b := newBed(t, oneVM(8))
	inside, outside, remote := socket(vmA6, 5000), socket(frontend6, firstPort), socket(serverA6, 443)
	routed := pkttest.Extension(43, append([]byte{4, 0, 0, 0, 0, 0}, addr("2001:db8::1").AsSlice()...)...)
	options := pkttest.Extension(60, 1, 4, 0, 0, 0, 0)
	for _, fields := range [][]pkttest.Field{{routed}, {options}, {routed, options}, {options, routed}} {
		b.forwards(flow.Inside, pkttest.UDP(inside, remote, "odd", fields...), pkttest.UDP(outside, remote, "odd", fields...))
		b.forwards(flow.Outside, pkttest.UDP(remote, outside, "odd", fields...), pkttest.UDP(remote, inside, "odd", fields...))
		pkt := pkttest.TCP(inside, remote, append([]pkttest.Field{pkttest.SYN}, fields...)...)
		b.forwards(flow.Inside, pkt, pkttest.TCP(outside, remote, append([]pkttest.Field{pkttest.SYN}, fields...)...))
	}
	waypoint := pkttest.Extension(43, append([]byte{4, 1, 0, 0, 0, 0}, addr("2001:db8::1").AsSlice()...)...)
	b.drops(flow.Inside, pkttest.UDP(inside, remote, "odd", waypoint), flow.ReasonRoutingHeader)
	b.drops(flow.Outside, pkttest.UDP(remote, outside, "odd", waypoint), flow.ReasonRoutingHeader)
}

// A Routing header that is used up is stepped over, whatever its type, and its
// addresses stay; one that is not is refused in both directions.
func TestNAT_E5_RoutingHeaders(t *testing.T) {
	inside, outside, remote := socket(vmA6, 5000), socket(frontend6, firstPort), socket(serverA6, 53)
	for _, kind := range []byte{0, 2, 3, 4, 253} {
		b := newBed(t, oneVM(8))
		header := func(left byte) pkttest.Field { // lists the inside host, of all addresses
			return pkttest.Extension(43, append([]byte{kind, left, 0, 0, 0, 0}, addr(vmA6).AsSlice()...)...)
		}
		b.forwards(flow.Inside, pkttest.UDP(inside, remote, "q", header(0)), pkttest.UDP(outside, remote, "q", header(0)))
		b.forwards(flow.Outside, pkttest.UDP(remote, outside, "a", header(0)), pkttest.UDP(remote, inside, "a", header(0)))
		for _, left := range []byte{1, 2, 255} {
			b.drops(flow.Inside, pkttest.UDP(inside, remote, "q", header(left)), flow.ReasonRoutingHeader)
			b.drops(flow.Outside, pkttest.UDP(remote, outside, "a", header(left)), flow.ReasonRoutingHeader)
		}
		assert.Equal(t, uint64(1), b.Stats().SessionsCreated)
	}
}

// A chain of extension headers leaves as it came, in packets and in quotes.
func TestNAT_E9_ChainsLeaveAsTheyCame(t *testing.T) {
	r := realms[1]
	b := newBed(t, carrying())
	chain := []pkttest.Field{ // from the last to the first
		pkttest.Extension(60, 1, 4, 1, 2, 3, 4),
		pkttest.Extension(44, 0, 0, 0, 0, 0, 7), // an atomic fragment
		pkttest.Extension(43, 4, 0, 0, 0, 0, 0),
		pkttest.Extension(60, 0x3e, 4, 9, 8, 7, 6), // an unknown option, for the destination
		pkttest.Extension(0, 5, 2, 0, 0, 1, 0),
	}
	for n := range len(chain) + 1 {
		fields := chain[len(chain)-n:]
		sent := pkttest.UDP(socket(r.a, 5000), socket(r.s, 53), "query", fields...)
		left := pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), "query", fields...)
		b.forwards(flow.Inside, clone(sent), clone(left))
		came := pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), "answer", fields...)
		given := pkttest.UDP(socket(r.s, 53), socket(r.a, 5000), "answer", fields...)
		b.forwards(flow.Outside, clone(came), clone(given))
		for _, e := range r.errors() {
			b.forwards(flow.Outside, report(e, r.rx, r.f, left, len(left)), report(e, r.rx, r.a, sent, len(sent)))
			b.forwards(flow.Inside, report(e, r.a, r.s, given, len(given)), report(e, r.f, r.s, came, len(came)))
		}
	}
	assert.Equal(t, uint64(1), b.Stats().SessionsCreated)
}
