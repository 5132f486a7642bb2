package story

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// serialize builds a packet with right lengths and checksums.
func serialize(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return b.Bytes()
}

func ipHeader(src, dst netip.Addr, proto layers.IPProtocol) (gopacket.SerializableLayer, gopacket.NetworkLayer) {
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		return ip, ip
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	return ip, ip
}

func udp4(t testing.TB, src, dst string) []byte {
	t.Helper()
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	ip, network := ipHeader(from.Addr(), to.Addr(), layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	require.NoError(t, u.SetNetworkLayerForChecksum(network))
	return serialize(t, ip, u, gopacket.Payload("query"))
}

func tcp4(t testing.TB, src, dst, flags string, seq uint32, ack ...uint32) []byte {
	t.Helper()
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	ip, network := ipHeader(from.Addr(), to.Addr(), layers.IPProtocolTCP)
	s := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: seq, Window: 1000,
		SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"), FIN: strings.Contains(flags, "F")}
	if len(ack) > 0 {
		s.Ack = ack[0]
	}
	require.NoError(t, s.SetNetworkLayerForChecksum(network))
	return serialize(t, ip, s)
}

func ping4(t testing.TB, src, dst string) []byte {
	t.Helper()
	ip, _ := ipHeader(netip.MustParseAddr(src), netip.MustParseAddr(dst), layers.IPProtocolICMPv4)
	return serialize(t, ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0)}, gopacket.Payload("ping"))
}

// record makes a recording of packets, a second apart.
func record(packets ...[]byte) *recording {
	c := &capture.Capture{}
	for i, p := range packets {
		c.Packets = append(c.Packets, capture.Packet{At: time.Duration(i) * time.Second, Data: p})
	}
	return newRecording(c, carried{})
}

const client, server = "192.0.2.1:4000", "203.0.113.1:80"

func TestRecordingFindsWhoBegan(t *testing.T) {
	for name, c := range map[string]struct {
		packets [][]byte
		replies []bool
	}{
		"handshake": {[][]byte{tcp4(t, client, server, "S", 1), tcp4(t, server, client, "SA", 9), tcp4(t, client, server, "A", 2)},
			[]bool{false, true, false}},
		"capture begins with the answer": {[][]byte{tcp4(t, server, client, "SA", 9), tcp4(t, client, server, "A", 2)},
			[]bool{true, false}},
		"capture begins in the middle": {[][]byte{tcp4(t, server, client, "A", 9), tcp4(t, client, server, "A", 2)},
			[]bool{true, false}},
		"no well-known port": {[][]byte{udp4(t, client, "203.0.113.1:9000"), udp4(t, "203.0.113.1:9000", client)},
			[]bool{false, true}},
		"two well-known ports": {[][]byte{udp4(t, "192.0.2.1:123", "203.0.113.1:123"), udp4(t, "203.0.113.1:123", "192.0.2.1:123")},
			[]bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(c.packets...)
			require.Len(t, r.conversations, 1)
			for i, p := range r.packets {
				assert.Equal(t, c.replies[i], p.reply, "packet %d", i)
			}
			assert.Equal(t, "192.0.2.1", r.conversations[0].client.Addr().String())
			assert.Equal(t, len(c.packets)-1, r.conversations[0].last)
		})
	}
}

func TestRecordingTellsNewConnectionsFromRetransmissions(t *testing.T) {
	again := record(tcp4(t, client, server, "S", 1), tcp4(t, client, server, "S", 1))
	assert.Len(t, again.conversations, 1)
	anew := record(tcp4(t, client, server, "S", 1), tcp4(t, client, server, "FA", 2), tcp4(t, client, server, "S", 70_000), tcp4(t, server, client, "SA", 5))
	require.Len(t, anew.conversations, 2)
	assert.Equal(t, []int{0, 0, 1, 1}, []int{anew.packets[0].conversation, anew.packets[1].conversation, anew.packets[2].conversation, anew.packets[3].conversation})
	assert.Len(t, anew.hosts, 1)
	assert.Len(t, anew.destinations, 1)
}

func TestRecordingKeepsWhatItCannotTrust(t *testing.T) {
	damaged := udp4(t, client, "198.51.100.53:53")
	damaged[2]++ // more bytes than there are
	wreck := []byte{0x45, 1, 2}
	r := record(udp4(t, client, "198.51.100.53:53"), damaged, wreck, ping4(t, "203.0.113.1", "192.0.2.1"))
	require.Len(t, r.conversations, 4, "each is a conversation of its own")
	assert.Equal(t, "192.0.2.1:0", r.conversations[1].client.String(), "ports are not trusted, addresses are")
	assert.False(t, r.conversations[2].client.IsValid())
	assert.True(t, r.packets[3].reply, "a ping reply to a client comes in")
	assert.Equal(t, wreck, r.packets[2].data)
}

// Giving packets other endpoints must leave right checksums right and wrong ones
// wrong by the same amount, or the translator would be blamed for it.
func TestSetEndpointsKeepsChecksumsTrueAndDamageVisible(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.244.1.2:33000"), netip.MustParseAddrPort("20.50.1.1:1024")
	for name, b := range map[string][]byte{
		"TCP": tcp4(t, client, server, "S", 1),
		"UDP": udp4(t, client, server),
	} {
		t.Run(name, func(t *testing.T) {
			readdressed := func(b []byte) wire.Packet {
				var p wire.Packet
				require.Equal(t, wire.OK, wire.Parse(b, &p))
				s := shapeOf(b, &p, true)
				s.setSource(b, from)
				s.setDestination(b, to)
				src, dst := s.endpoints(b)
				assert.Equal(t, [2]netip.AddrPort{from, to}, [2]netip.AddrPort{src, dst})
				require.Equal(t, wire.OK, wire.Parse(b, &p), "the IP header checksum is right")
				return p
			}
			damaged := append([]byte(nil), b...)
			damaged[len(damaged)-1] ^= 0x10
			p := readdressed(b)
			assert.True(t, wire.VerifyL4(&p))
			p = readdressed(damaged)
			assert.False(t, wire.VerifyL4(&p))
			damaged[len(damaged)-1] ^= 0x10
			assert.Equal(t, b, damaged, "healed, it is the packet that was never damaged")
		})
	}
}
