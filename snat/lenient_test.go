package snat_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What each leniency lets pass, in both directions, and that nothing of it passes
// without.
func TestLenient(t *testing.T) {
	flags := func(letters string) func(src, dst string) []byte {
		return func(src, dst string) []byte { return pkttest.TCP(src, dst, pkttest.TCPFlags(letters)) }
	}
	for name, c := range map[string]struct {
		let    snat.Leniency
		reason flow.Reason
		port   int // source port
		build  func(src, dst string) []byte
		answer func(src, dst string) []byte
	}{
		"SYN with PSH": {snat.Leniency{TCPFlags: true}, flow.ReasonTCPFlags, 5000, flags("SP"), flags("RP")},
		"SYN with URG": {snat.Leniency{TCPFlags: true}, flow.ReasonTCPFlags, 5000, flags("SU"), flags("SPU")},
		"source port 0": {
			snat.Leniency{UDPPortZero: true}, flow.ReasonPortZero, 0,
			func(src, dst string) []byte { return pkttest.UDP(src, dst, "question") }, nil,
		},
		"no checksum over IPv6": {
			snat.Leniency{UDP6Zero: true}, flow.ReasonUDP6Zero, 5000,
			func(src, dst string) []byte { return pkttest.UDP(src, dst, "question", pkttest.NoChecksum()) },
			func(src, dst string) []byte { return pkttest.UDP(src, dst, "answer", pkttest.NoChecksum()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRealm(t, func(t *testing.T, r realm) {
				if c.reason == flow.ReasonUDP6Zero && r.header == 20 {
					t.Skip("IPv4 needs no checksum")
				}
				inside, outside, remote := socket(r.a, c.port), socket(r.f, firstPort), socket(r.s, 443)
				config := oneVM(8)
				strict := newBed(t, config)
				strict.drops(flow.Inside, c.build(inside, remote), c.reason)
				config.Lenient = c.let
				b := newBed(t, config)
				late := c.build(inside, remote)
				if r.header == 20 {
					late[8], late[10] = 0, 0
					pkttest.FixChecksums(late)
				} else {
					late[7] = 0
				}
				assert.Equal(t, flow.Drop, b.send(flow.Inside, late).Action, "its time is up")
				b.forwards(flow.Inside, c.build(inside, remote), c.build(outside, remote))
				b.forwards(flow.Inside, c.build(inside, remote), c.build(outside, remote))
				if c.answer == nil {
					c.answer = func(src, dst string) []byte { return pkttest.UDP(src, dst, "answer") }
				}
				b.forwards(flow.Outside, c.answer(remote, outside), c.answer(remote, inside))
				_, err := b.Reconfigure(b.now, oneVM(8))
				assert.ErrorIs(t, err, snat.ErrFixed)
			})
		})
	}
	// What is none of it is dropped still.
	all := oneVM(8)
	all.Lenient = snat.Leniency{TCPFlags: true, UDPPortZero: true, UDP6Zero: true}
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, all)
		for _, letters := range []string{"SF", "", "F", "P", "U", "RU", "SR", "SFP"} {
			b.drops(flow.Inside, pkttest.TCP(socket(r.a, 5000), socket(r.s, 443), pkttest.TCPFlags(letters)), flow.ReasonTCPFlags)
		}
		b.drops(flow.Inside, pkttest.TCP(socket(r.a, 0), socket(r.s, 443), pkttest.SYN), flow.ReasonPortZero)
		b.drops(flow.Inside, pkttest.TCP(socket(r.a, 0), socket(r.s, 443), pkttest.TCPFlags("SP")), flow.ReasonTCPFlags)
		b.drops(flow.Inside, pkttest.UDP(socket(r.a, 0), socket(r.s, 0), "x"), flow.ReasonPortZero)
	})
}

// Errors about IPv4 headers with wrong checksums, and Source Quench.
func TestLenientErrors(t *testing.T) {
	r := realms[0]
	for name, c := range map[string]struct {
		let    func(i *snat.ICMP)
		typ    uint8
		spoil  uint32
		reason flow.Reason
	}{
		"wrong checksum": {func(i *snat.ICMP) { i.LenientQuotes = true }, 11, 0x1234, flow.ReasonICMPInnerChecksum},
		"source quench":  {func(i *snat.ICMP) { i.SourceQuench = true }, 4, 0, flow.ReasonICMPType},
	} {
		for _, shared := range []bool{false, true} {
			for _, let := range []bool{false, true} {
				config := carrying()
				if shared {
					config.Instances[0].Ports = nil
					config.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend)}, FirstPort: firstPort, LastPort: firstPort}
				}
				if let {
					c.let(&config.ICMP)
				}
				b := newBed(t, config)
				sent := pkttest.UDP(socket(r.a, 5000), socket(r.s, 53), "question")
				left := clone(sent)
				require.Equal(t, flow.Forward, b.send(flow.Inside, left).Action)
				came := pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), "answer")
				arrived := clone(came)
				require.Equal(t, flow.Forward, b.send(flow.Outside, arrived).Action)
				for _, p := range [][]byte{sent, left, came, arrived} { // all wrong by the same
					sum := uint32(binary.BigEndian.Uint16(p[10:])) + c.spoil
					binary.BigEndian.PutUint16(p[10:], uint16(sum+sum>>16))
				}
				in, wantIn := pkttest.ICMP(r.rx, r.f, c.typ, 0, 0, left), pkttest.ICMP(r.rx, r.a, c.typ, 0, 0, sent)
				out, wantOut := pkttest.ICMP(r.a, r.s, c.typ, 0, 0, arrived), pkttest.ICMP(r.f, r.s, c.typ, 0, 0, came)
				if !let {
					b.drops(flow.Outside, in, c.reason)
					b.drops(flow.Inside, out, c.reason)
					continue
				}
				b.forwards(flow.Outside, in, wantIn)
				b.forwards(flow.Inside, out, wantOut)
			}
		}
		config := oneVM(8)
		c.let(&config.ICMP)
		assert.ErrorContains(t, config.Validate(), "they need ICMP.Errors", name)
	}
}
