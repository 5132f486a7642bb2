package story

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// varied returns a UDP or TCP packet of a conversation as a copy has it, whole and
// with a right checksum, in a buffer of its own.
func varied(t *testing.T, v variation, conv *conversation, b []byte, reply bool) []byte {
	t.Helper()
	var parsed wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &parsed))
	p := packet{data: b, reply: reply, shape: shapeOf(b, &parsed, true)}
	conv.learn(&p)
	is := bytes.Clone(b)
	v.apply(&p, conv, is)
	require.Equal(t, wire.OK, wire.Parse(is, &parsed))
	require.True(t, wire.VerifyL4(&parsed))
	return is[parsed.L4:]
}

func TestFirstCopyIsTheRecording(t *testing.T) {
	for i := range 100 {
		assert.Zero(t, vary(1, 0, i))
		assert.NotZero(t, vary(1, 1, i))
		assert.NotEqual(t, vary(1, 1, i), vary(1, 2, i))
		assert.NotEqual(t, vary(1, 1, i), vary(1, 1, i+1))
		assert.NotEqual(t, vary(1, 1, i), vary(2, 1, i))
		assert.Equal(t, vary(1, 1, i), vary(1, 1, i))
	}
}

func TestSequenceNumbersOfACopy(t *testing.T) {
	const client, server = "10.0.0.1:40000", "203.0.113.9:443"
	v := variation{seq: [2]uint32{1000, 0xffff_fff0}, stamp: [2]uint32{7, 70}}
	conv := conversation{proto: wire.ProtoTCP}
	numbers := func(b []byte) string {
		h := wire.TCP(b)
		s := fmt.Sprintf("%d %d", h.Seq(), h.Ack())
		for o := b[20:h.DataOffset()]; len(o) > 1; {
			size := 1
			if o[0] > 1 {
				size = int(o[1])
			}
			for w := o[min(2, size):size]; (o[0] == 5 || o[0] == 8) && len(w) > 0; w = w[4:] {
				s += fmt.Sprint(" ", binary.BigEndian.Uint32(w))
			}
			o = o[size:]
		}
		return s
	}
	stamps := pkttest.TCPOption(8, 0, 0, 0, 100, 0, 0, 0, 200)
	sack := pkttest.TCPOption(5, 0, 0, 0, 10, 0, 0, 0, 20)
	tcp := func(src, dst, flags string, seq, ack uint32, options ...pkttest.Field) []byte {
		return pkttest.TCP(src, dst, append(options, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack))...)
	}
	for _, c := range []struct {
		what  string
		b     []byte
		reply bool
		want  string
	}{
		{"SYN", tcp(client, server, "S", 5, 0, stamps), false, "1005 0 107 200"},
		{"SYN-ACK", tcp(server, client, "SA", 50, 6, stamps), true, "34 1006 170 207"},
		{"timestamps at an odd place", tcp(client, server, "A", 6, 51, pkttest.WScale(7), stamps), false, "1006 35 107 270"},
		{"SACK", tcp(client, server, "A", 6, 51, sack), false, "1006 35 4294967290 4"},
		{"RST without a connection", tcp(server, client, "RA", 0, 6), true, "0 1006"},
	} {
		assert.Equal(t, c.want, numbers(varied(t, v, &conv, c.b, c.reply)), c.what)
	}
}

func TestIdentifiersOfACopy(t *testing.T) {
	v := variation{id: 0xffff, cid: 0x0102030405060708}
	dns := conversation{server: netip.MustParseAddrPort("203.0.113.53:53"), proto: wire.ProtoUDP}
	b := varied(t, v, &dns, pkttest.UDP("10.0.0.1:40000", "203.0.113.53:53", "\x12\x34query"), false)
	assert.Equal(t, "\x12\x33query", string(b[8:]))

	conv := conversation{server: netip.MustParseAddrPort("203.0.113.9:443"), proto: wire.ProtoUDP}
	say := func(reply bool, payload string) string {
		src, dst := "10.0.0.1:40000", "203.0.113.9:443"
		if reply {
			src, dst = dst, src
		}
		return string(varied(t, v, &conv, pkttest.UDP(src, dst, payload), reply)[8:])
	}
	const plain = "\x40server is not known yet"
	assert.Equal(t, plain, say(false, plain), "not QUIC, as far as is known")
	assert.Equal(t, "\xc0\x00\x00\x00\x01\x02\x49\x45\x01\x6brest", say(false, "\xc0\x00\x00\x00\x01\x02AB\x01crest"))
	assert.Equal(t, "\xe0\x00\x00\x00\x01\x01\x6b\x04\x7b\x7e\x7e\x7crest", say(true, "\xe0\x00\x00\x00\x01\x01c\x04syxyrest"))
	assert.Equal(t, "\x40\x7b\x7e\x7e\x7crest", say(false, "\x40syxyrest"), "to the server, whose ID has 4 bytes")
	assert.Equal(t, "\x40\x6brest", say(true, "\x40crest"), "to the client, whose ID has 1 byte")
	assert.Equal(t, "\x40", say(false, "\x40"), "too short for an ID")
}

// Copies of one recording are connections of their own, to tshark as well: what it takes
// for repeated in all copies together is what it does in the recording, so many times.
func TestCopiesAreNotTakenForEachOther(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("tshark is required in CI")
	}
	if err != nil {
		t.Skip("tshark is not installed")
	}
	count := func(copies, filter string) int {
		dir := t.TempDir()
		egressJSON(t, "-out", dir, "-copies", copies, "-nodes", "1", "-pods-per-node", "1")
		out, err := exec.Command(tshark, "-r", filepath.Join(dir, "outside.pcap"), "-Y", filter, "-T", "fields", "-e", "frame.number").Output()
		require.NoError(t, err)
		return bytes.Count(out, []byte("\n"))
	}
	const again = "tcp.analysis.retransmission || tcp.analysis.fast_retransmission || tcp.analysis.spurious_retransmission || tcp.analysis.out_of_order || dns.retransmission"
	assert.Equal(t, 6*count("1", again), count("6", again))
	assert.Equal(t, 6*count("1", "http.response"), count("6", "http.response"))
}
