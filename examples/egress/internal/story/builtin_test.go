package story

import (
	"bytes"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/egress/testdata"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Whatever a capture holds, the rest of the program can work on it.
func FuzzRecording(f *testing.F) {
	f.Add(pkttest.Pcap(layers.LinkTypeEthernet, join(make([]byte, 12), []byte{0x81, 0, 0, 7, 8, 0}, udp4(f, "192.0.2.11:40000", "198.51.100.53:53"))))
	f.Add(pkttest.Pcap(layers.LinkTypeRaw, udp4(f, "192.0.2.11:40000", "198.51.100.53:53"), tcp4(f, "192.0.2.1:4000", "203.0.113.1:80", "S", 1)))
	f.Add(pkttest.Pcapng([]layers.LinkType{layers.LinkTypeLinuxSLL}, join(make([]byte, 14), []byte{8, 0}, udp4(f, "192.0.2.11:40000", "198.51.100.53:53"))))
	f.Add(testdata.Conversations[:2000])
	f.Fuzz(func(t *testing.T, file []byte) {
		content, err := capture.Read(file)
		if err != nil {
			return
		}
		r := newRecording(content, carried{})
		for i, p := range r.packets {
			conv := r.conversations[p.conversation]
			if conv.last < i || p.at < 0 || conv.host >= len(r.hosts) || conv.destination >= len(r.destinations) {
				t.Fatalf("packet %d: %+v of %+v", i, p, conv)
			}
			b := bytes.Clone(p.data)
			src, dst := p.endpoints(b)
			p.setSource(b, src)
			p.setDestination(b, dst)
			if after, _ := p.endpoints(b); after != src {
				t.Fatalf("packet %d: source %v became %v", i, src, after)
			}
		}
	})
}

func TestBuiltinCaptureKeepsItsPromises(t *testing.T) { checkRecording(t, testdata.Conversations) }

// checkRecording holds a recording against what the command promises of it.
func checkRecording(t *testing.T, file []byte) {
	t.Helper()
	assert.Less(t, len(file), 600<<10)
	content, err := capture.Read(file)
	require.NoError(t, err)
	r := newRecording(content, carried{})
	assert.Empty(t, r.skipped)
	for i, p := range r.packets {
		var parsed wire.Packet
		require.Equal(t, wire.OK, wire.Parse(p.data, &parsed), "packet %d", i)
		require.True(t, wire.VerifyL4(&parsed), "checksum of packet %d", i)
		require.LessOrEqual(t, len(p.data), 1500, "packet %d", i)
	}
	var tcp, udp, v6, idle, reset, refused int
	for i, c := range r.conversations {
		switch c.proto {
		case wire.ProtoTCP:
			tcp++
		case wire.ProtoUDP:
			udp++
		}
		if c.client.Addr().Is6() {
			v6++
		}
		var flags []uint8
		for _, p := range r.packets {
			if p.conversation == i && p.isTCP() {
				flags = append(flags, wire.TCP(p.data[p.transport:]).Flags())
			}
		}
		switch {
		case c.proto != wire.ProtoTCP:
		case len(flags) == 2 && flags[1]&wire.RST != 0:
			refused++
		case seen(flags, wire.FIN):
		case seen(flags, wire.RST):
			reset++
		default:
			idle++
		}
	}
	assert.Equal(t, len(r.conversations), tcp+udp)
	assert.Greater(t, tcp, 20)
	assert.Greater(t, udp, 40)
	assert.Greater(t, v6, 20)
	assert.Equal(t, 2, idle, "connections left open")
	assert.Positive(t, reset, "connections ended by a RST alone")
	assert.Equal(t, 1, refused, "connections to a closed port")
}

// seen reports whether one of the segments has the flag.
func seen(segments []uint8, flag uint8) bool {
	for _, f := range segments {
		if f&flag != 0 {
			return true
		}
	}
	return false
}
