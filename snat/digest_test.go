package snat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// The pins of TestDigests: what each preset makes of the mixed traffic, as one number.
// A change of the engine that is to change nothing leaves them alone. One that changes
// what a preset does, on purpose, changes that preset's.
var digests = map[string]string{
	"aws-natgw":        "c58d308b93349e17",
	"azure-lb":         "c9591844119b269e",
	"azure-lb-2019":    "bdd279d5a0db3d87",
	"azure-natgw":      "ef5f9336ff006b39",
	"azure-natgw-2020": "1dc7b429fb0b2b1f",
	"azure-natgw-2022": "bc855807d5d08af5",
	"cgn":              "659f7f6cea45ae83",
	"gcp-cloudnat":     "0b05a63ba8b0c347",
	"linux-masquerade": "3ac75a55544b01f4",
	"rfc":              "274078e9d333c422",
}

// Every preset does with the same traffic what it did before, byte for byte, event by
// event, whatever the key of the tables is.
func TestDigests(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			got, st := mixed(t, p, 1)
			assert.Equal(t, digests[p.Name], got)
			again, _ := mixed(t, p, 1)
			assert.Equal(t, got, again, "the same seed, the same bytes")
			other, _ := mixed(t, p, 2)
			assert.NotEqual(t, got, other, "the seed of the traffic")
			assert.Greater(t, st.SessionsCreated, uint64(500), "the traffic is no test if nothing passes")
			assert.Greater(t, st.SessionsEnded, uint64(300))
		})
	}
}

// mixed sends seeded traffic of all kinds through a preset, and returns the digest and
// the counters of the run: IPv4 and IPv6, connections that are opened, used, closed,
// reset and forgotten, datagrams, echo requests, fragments, errors, strangers, and
// time that passes, sometimes unnoticed.
func mixed(t *testing.T, p preset.Preset, seed uint64) (string, snat.Stats) {
	return mixedBy(t, p, seed, func(step int, _ *mixer, n *snat.NAT, _ snat.Config) *snat.NAT { return n })
}

// presets are those that tests of mixed traffic play: all, or each third where tests are brief.
func presets() (some []preset.Preset) {
	all := preset.All()
	for i := 0; i < len(all); i += pkttest.Operations(3, 1, 1) {
		some = append(some, all[i])
	}
	return some
}

// mixedBy is mixed where next says which NAT goes on after each step; without one it ends, and returns nothing.
func mixedBy(t *testing.T, p preset.Preset, seed uint64, next func(step int, m *mixer, n *snat.NAT, c snat.Config) *snat.NAT) (string, snat.Stats) {
	site := preset.Site{Seed: seed, Frontends: []netip.Addr{addr("203.0.113.10"), addr("2001:db8:f::10")}, PortsPerInstance: 64}
	if p.Name == "cgn" {
		site.PortsPerInstance = 256 // its blocks are larger
	}
	for i := range 3 {
		site.Instances = append(site.Instances, snat.Instance{
			Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{addr("10.0.0.%d", 4+i), addr("fd00::%d", 4+i)},
			Inside: prefixes(fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:244:%d::/64", i)),
		})
	}
	site.Routes = []snat.Route{
		{Prefix: netip.MustParsePrefix("10.224.0.0/12"), Action: snat.NodeAddress},
		{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Action: snat.PassThrough},
	}
	c, err := p.Configure(site)
	require.NoError(t, err)
	d := digest.New()
	note := func(what string, at flow.Time, instance uint32, s flow.Info) {
		d.Note("%s %v %d %d %d %v %v %v %s %v %v", what, at, instance, s.Proto, s.VNI, s.Inside, s.Outside, s.Remote, s.State, s.Class, s.Data)
	}
	c.Log = snat.Log{Sessions: true, Bindings: true, Destinations: true}
	c.Hooks = snat.Hooks{
		SessionCreated: func(at flow.Time, i uint32, s flow.Info) { note("created", at, i, s) },
		SessionExpired: func(at flow.Time, i uint32, s flow.Info) { note("expired", at, i, s) },
		ResetSent:      func(at flow.Time, i uint32, s flow.Info) { note("reset", at, i, s) },
		PortRefused: func(at flow.Time, i uint32, proto uint8, r flow.Reason) {
			d.Note("refused %v %d %d %v", at, i, proto, r)
		},
		Event: func(e snat.Event) { d.Note("%v", e) },
	}
	nat, err := snat.New(c)
	require.NoError(t, err)
	defer func() { nat.Close() }()
	m := mixer{Rand: rand.New(rand.NewPCG(seed, 7)), nat: &digest.Recorder{Translator: nat, Digest: d}}
	for step := range 4000 {
		m.step()
		nat.Check()
		to := next(step, &m, nat, c)
		if to == nil {
			return "", snat.Stats{}
		}
		nat, m.nat.Translator = to, to
	}
	m.now = m.now.Add(24 * 24 * time.Hour)
	m.nat.Advance(m.now, nil)
	st := nat.Stats()
	assert.Zero(t, st.Faults)
	return d.String(), st
}

// mixer is the traffic of mixed.
type mixer struct {
	*rand.Rand
	nat   *digest.Recorder
	now   flow.Time
	calls []*call
}

// call is a conversation that has begun. The inside counts from 1000, the remote from
// 5000.
type call struct {
	inside, remote, outside string
	kind                    int    // 0 TCP, 1 UDP, 2 echo
	left                    []byte // its last packet outside
	in, out                 uint32 // bytes sent by either side
	id                      uint16 // of an echo request outside
}

func (m *mixer) step() {
	switch n := m.IntN(100); {
	case n < 25:
		m.begin()
	case n < 80 && len(m.calls) > 0:
		m.goOn(m.calls[m.IntN(len(m.calls))])
	case n < 84:
		m.stranger()
	case n < 88 && len(m.calls) > 0:
		m.fails(m.calls[m.IntN(len(m.calls))])
	case n < 98:
		m.now = m.now.Add(time.Duration(m.IntN(2000)) * time.Millisecond)
	default:
		m.now = m.now.Add(time.Duration(m.IntN(600)) * time.Second)
	}
	if m.IntN(3) == 0 {
		m.nat.Advance(m.now, nil)
	}
}

// begin opens a conversation of one of few sockets with one of few remotes, so that
// they meet.
func (m *mixer) begin() {
	hosts := []string{"10.0.0.4", "10.244.0.7", "10.0.0.5", "10.244.1.7", "10.244.2.8"}
	peers := []string{"198.51.100.7", "198.51.100.7", "198.51.100.8", "198.51.100.9", "10.225.0.9", "10.244.1.9"}
	if m.IntN(3) == 0 {
		hosts = []string{"fd00::4", "fd00:244::7", "fd00:244:1::7"}
		peers = []string{"2001:db8:5::7", "2001:db8:5::8"}
	}
	c := &call{kind: m.IntN(7) / 3}
	host, peer := hosts[m.IntN(len(hosts))], peers[m.IntN(len(peers))]
	c.inside, c.remote = socket(host, 5000+m.IntN(80)), socket(peer, []int{443, 53, 80}[m.IntN(3)])
	if c.kind == 2 {
		c.inside, c.remote = host, peer
	}
	if m.goes(c, m.packet(c, c.inside, c.remote, "S", 1000, 0, 0)) {
		m.calls = append(m.calls, c)
	}
	if len(m.calls) > 400 {
		m.calls = m.calls[100:]
	}
}

// packet builds a packet of a conversation.
func (m *mixer) packet(c *call, src, dst, flags string, seq, ack uint32, size int) []byte {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i)
	}
	switch c.kind {
	case 0:
		return pkttest.TCP(src, dst, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack), pkttest.Payload(string(payload)))
	case 1:
		return pkttest.UDP(src, dst, string(payload))
	}
	if src == c.inside {
		return pkttest.ICMPEcho(src, dst, uint16(1+len(src)), uint16(seq), pkttest.Payload(string(payload)))
	}
	return pkttest.ICMPEchoReply(src, dst, c.id, uint16(seq), pkttest.Payload(string(payload)))
}

// goes sends a packet from the inside, whole or in pieces, and reports whether it left.
func (m *mixer) goes(c *call, pkt []byte) bool {
	cut := m.pieces(pkt)
	for _, piece := range cut {
		v := m.nat.Outbound(m.now, piece)
		if v.Action == flow.Drop {
			return false
		}
		if v.Action == flow.Forward && len(cut) == 1 {
			c.left, c.outside = piece, source(pkttest.String(piece))
			header := 20
			if piece[0]>>4 == 6 {
				header = 40
			}
			c.id = uint16(piece[header+4])<<8 | uint16(piece[header+5])
		}
	}
	return c.outside != ""
}

// pieces cuts one packet in eight, and changes the order of one in sixteen.
func (m *mixer) pieces(pkt []byte) [][]byte {
	if len(pkt) < 80 || m.IntN(8) > 0 {
		return [][]byte{pkt}
	}
	cut := pkttest.Fragments(pkt, 40, uint32(m.IntN(1<<16)))
	if m.IntN(2) == 0 {
		m.Shuffle(len(cut), func(i, j int) { cut[i], cut[j] = cut[j], cut[i] })
	}
	return cut
}

// goOn sends one more packet of a conversation, from either end.
func (m *mixer) goOn(c *call) {
	size := []int{0, 0, 10, 200}[m.IntN(4)]
	flags := []string{"A", "A", "A", "PA", "FA", "R", "S", "SA"}[m.IntN(8)]
	if m.IntN(2) == 0 {
		c.out += uint32(size)
		m.goes(c, m.packet(c, c.inside, c.remote, flags, 1000+c.out, 5001+c.in, size))
		return
	}
	if c.in == 0 && c.kind == 0 && m.IntN(4) > 0 {
		flags = "SA"
	}
	for _, piece := range m.pieces(m.packet(c, c.remote, c.outside, flags, 5000+c.in, 1001+c.out, size)) {
		m.nat.Inbound(m.now, piece)
	}
	c.in += uint32(size) + 1
}

// stranger sends from outside what nobody asked for.
func (m *mixer) stranger() {
	to := socket("203.0.113.10", 1024+m.IntN(256))
	if m.IntN(2) == 0 {
		m.nat.Inbound(m.now, pkttest.UDP("192.0.2.66:4444", to, "knock"))
		return
	}
	m.nat.Inbound(m.now, pkttest.TCP("192.0.2.66:4444", to, pkttest.TCPFlags([]string{"S", "A", "R"}[m.IntN(3)])))
}

// fails reports from outside that the last packet of a conversation did not arrive.
func (m *mixer) fails(c *call) {
	if len(c.left) == 0 {
		return
	}
	quote := c.left[:min(len(c.left), 96)]
	if c.left[0]>>4 == 4 {
		m.nat.Inbound(m.now, pkttest.ICMP("192.0.2.1", addressOf(c.outside), 3, 1, 0, quote))
		return
	}
	m.nat.Inbound(m.now, pkttest.ICMP("2001:db8:66::1", addressOf(c.outside), 1, 3, 0, quote))
}

// addressOf returns the address of a socket, or an address as it is.
func addressOf(s string) string {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().String()
	}
	return s
}
