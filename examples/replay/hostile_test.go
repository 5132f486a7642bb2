package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// malformed is a packet from one endpoint to another, and what becomes of it.
type malformed struct {
	build    func(s, d string) []byte
	want     string // the reason it is dropped for, or pass
	families string
}

const pass = ""

// malformedPackets are malformed packets, and odd but legal ones that pass. Names
// begin with their case in a list of such packets that every NAT has to meet.
func malformedPackets() map[string]malformed {
	opt := pkttest.IPOptions
	ext := pkttest.Extension
	udp := func(fields ...pkttest.Field) func(s, d string) []byte {
		return func(s, d string) []byte { return pkttest.UDP(s, d, "sixteen bytes...", fields...) }
	}
	tcp := func(fields ...pkttest.Field) func(s, d string) []byte {
		return func(s, d string) []byte {
			return pkttest.TCP(s, d, append([]pkttest.Field{pkttest.TCPFlags("S")}, fields...)...)
		}
	}
	ip := func(proto uint8, n int, fields ...pkttest.Field) func(s, d string) []byte {
		return func(s, d string) []byte { return pkttest.IP(host1(s), host1(d), proto, make([]byte, n), fields...) }
	}
	cut := func(n int) func(s, d string) []byte {
		return func(s, d string) []byte { return pkttest.UDP(s, d, "sixteen bytes...")[:n] }
	}
	// upper patches the transport header of what build makes.
	upper := func(build func(s, d string) []byte, at int, data ...byte) func(s, d string) []byte {
		return func(s, d string) []byte {
			b := build(s, d)
			copy(b[headerLen(b)+at:], data)
			return b
		}
	}
	// piece makes a fragment with n bytes at an offset.
	piece := func(proto uint8, n, offset int, more bool) func(s, d string) []byte {
		return func(s, d string) []byte { return fragment(ip(proto, n)(s, d), offset, more) }
	}
	return map[string]malformed{
		"M1 one byte":                     {cut(1), "short", "46"},
		"M2 version 5":                    {udp(pkttest.Patch(0, 0x55)), "bad_version", "46"},
		"M3 half a header":                {cut(19), "short", "46"},
		"M4 header length 16":             {udp(pkttest.Patch(0, 0x44)), "bad_ihl", "4"},
		"M5 header length 60":             {udp(pkttest.Patch(0, 0x4f)), "bad_ihl", "4"},
		"M6 total length beyond the end":  {udp(pkttest.Patch(2, 0xff, 0xff)), "bad_len", "4"},
		"M6 cut by a snap length":         {cut(41), "bad_len", "46"},
		"M7 total length below header":    {udp(pkttest.Patch(2, 0, 10)), "bad_len", "4"},
		"M8 padded":                       {func(s, d string) []byte { return append(udp()(s, d), 1, 2, 3, 4, 5) }, pass, "46"},
		"M9 header checksum":              {udp(pkttest.Patch(8, 63)), "ip_csum", "4"},
		"M12 reserved flag":               {func(s, d string) []byte { return flags(udp()(s, d), 0xc000) }, pass, "4"},
		"M14 fragment length":             {piece(protoUDP, 20, 0, true), "frag_len", "46"},
		"M15 fragment too far":            {piece(protoUDP, 400, 65528, false), "frag_overflow", "46"},
		"M16 empty fragment":              {piece(protoUDP, 0, 8, false), "frag_empty", "46"},
		"M17 tiny first fragment":         {piece(protoTCP, 8, 0, true), "frag_tiny", "46"},
		"M18 TCP fragment at 8":           {piece(protoTCP, 16, 8, false), "frag_fo1", "46"},
		"M21 source route":                {udp(opt(131, 7, 4, 10, 0, 0, 9, 0)), "src_route", "4"},
		"M22 option length 0":             {udp(opt(7, 0, 0, 0)), "bad_option", "4"},
		"M23 record route":                {udp(opt(7, 7, 4, 0, 0, 0, 0, 0)), pass, "4"},
		"M33 GRE":                         {ip(47, 16), "unsupported_proto", "46"},
		"M33 ESP":                         {ip(50, 16), "unsupported_proto", "46"},
		"M33 SCTP":                        {ip(132, 16), "unsupported_proto", "46"},
		"M34 IP in IP":                    {ip(4, 40), "unsupported_proto", "46"},
		"M35 ICMPv6 in IPv4":              {ip(protoICMPv6, 16), "proto_family", "4"},
		"M35 ICMP in IPv6":                {ip(protoICMP, 16), "proto_family", "6"},
		"M36 TCP too short":               {ip(protoTCP, 19), "tcp_short", "46"},
		"M37 TCP data offset 4":           {upper(tcp(), 12, 0x40), "tcp_off", "46"},
		"M38 TCP data offset 15":          {upper(tcp(), 12, 0xf0), "tcp_off", "46"},
		"M39 TCP checksum of a SYN":       {tcp(pkttest.BadChecksum()), "l4_csum", "46"},
		"M40 SYN and FIN":                 {tcp(pkttest.TCPFlags("SF")), "tcp_flags", "46"},
		"M41 SYN with data":               {tcp(pkttest.Payload("early")), pass, "46"},
		"M44 port 0":                      {upper(udp(), 2, 0, 0), "port_zero", "46"},
		"M45 ACK without a flow":          {tcp(pkttest.TCPFlags("A")), "no_flow", "46"},
		"M46 RST without a flow":          {tcp(pkttest.TCPFlags("R")), "no_flow", "46"},
		"M48 UDP too short":               {ip(protoUDP, 7), "udp_short", "46"},
		"M49 UDP length 7":                {upper(udp(), 4, 0, 7), "udp_len", "46"},
		"M50 UDP length beyond the end":   {upper(udp(), 4, 0, 99), "udp_len", "46"},
		"M51 UDP with surplus":            {upper(udp(), 4, 0, 20), pass, "46"},
		"M52 UDP without checksum":        {udp(pkttest.NoChecksum()), pass, "4"},
		"M53 UDP6 without checksum":       {udp(pkttest.NoChecksum()), "udp6_zero", "6"},
		"M54 UDP checksum":                {udp(pkttest.BadChecksum()), pass, "46"},
		"M66 no payload":                  {udp(pkttest.Patch(4, 0, 0)), "bad_len", "6"},
		"M67 Hop-by-Hop second":           {udp(ext(0, 1, 4, 0, 0, 0, 0), ext(60, 1, 4, 0, 0, 0, 0)), "v6_ext_order", "6"},
		"M67 extension beyond the end":    {udp(ext(60, 1, 4, 0, 0, 0, 0), pkttest.Patch(41, 200)), "v6_ext_len", "6"},
		"M68 Routing with a segment left": {udp(ext(43, 0, 1, 0, 0, 0, 0)), "v6_routing", "6"},
	}
}

// Malformed packets are dropped for what they are, whether they go out or come in.
func TestMalformedPackets(t *testing.T) {
	for name, c := range malformedPackets() {
		t.Run(name, func(t *testing.T) {
			for _, ends := range []struct{ family, inside, remote string }{
				{"4", a + ":4000", remote + ":53"}, {"6", "[fd00::4]:4000", "[2001:db8:5::7]:53"},
			} {
				if !strings.Contains(c.families, ends.family) {
					continue
				}
				// A flow that it could belong to, but for its ports.
				open := pkttest.UDP(ends.inside, ends.remote, "query")
				answer := pkttest.UDP(ends.remote, ends.inside, "answer")
				out, in := c.build(ends.inside, ends.remote), c.build(ends.remote, ends.inside)
				d := replayJSON(t, captureOf(t, open, answer, out, in))
				if c.want == pass {
					assert.Equal(t, 4, d.Roundtrip.Identical, "%s", pkttest.String(out))
					continue
				}
				reasons := map[string]int{c.want: 2}
				if c.want == "l4_csum" { // which an unsolicited SYN is not even asked for
					reasons = map[string]int{"l4_csum": 1, "no_flow": 1}
				}
				assert.Equal(t, reasons, d.Reasons)
				assert.Equal(t, 2, d.Roundtrip.Identical)
			}
		})
	}
}

// headerLen returns the length of an IP header without options or extensions.
func headerLen(b []byte) int {
	if b[0]>>4 == 4 {
		return 20
	}
	return 40
}

// flags sets the flags and the fragment offset of an IPv4 packet.
func flags(b []byte, word uint16) []byte {
	fresh := binary.BigEndian.AppendUint16(nil, word)
	amend(b[10:12], b[6:8], fresh)
	copy(b[6:], fresh)
	return b
}

// fragment makes a whole packet a fragment that starts at an offset in bytes.
func fragment(b []byte, offset int, more bool) []byte {
	if b[0]>>4 == 4 {
		word := uint16(offset / 8)
		if more {
			word |= 0x2000
		}
		return flags(b, word)
	}
	word := uint16(offset)
	if more {
		word |= 1
	}
	header := append(binary.BigEndian.AppendUint16([]byte{b[6], 0}, word), 0, 0, 0, 9)
	b = slices.Insert(b, 40, header...)
	b[6] = 44
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// Any bytes, in frames of any link type: the report accounts for all of them.
func TestRandomBytesInEveryLinkType(t *testing.T) {
	const seed = 4
	random := rand.New(rand.NewPCG(seed, 0))
	in := filepath.Join(t.TempDir(), "in.pcap")
	for link := range 300 {
		all := make([][]byte, 40)
		for i := range all {
			f := make([]byte, random.IntN(90))
			for j := range f {
				f[j] = byte(random.Uint32())
			}
			if i%2 == 0 && len(f) > 14 { // closer to something
				f[0], f[12], f[13], f[14] = 0x45, 8, 0, 0x45
			}
			all[i] = f
		}
		file := pkttest.Pcap(0, all...)
		binary.LittleEndian.PutUint32(file[20:], uint32(link))
		require.NoError(t, os.WriteFile(in, file, 0o600))
		d := result(t, "-in", in, "-inside", "0.0.0.0/1,::/1", "-frontend", "198.51.100.7,fd00::7")
		require.Equal(t, 40, d.Frames.Total, "link type %d", link)
	}
}

// Damaged packets of real conversations: what is forwarded nevertheless comes
// back as damaged as it was.
func TestDamagedConversationsComeBackAsDamaged(t *testing.T) {
	const seed, rounds = 5, 20
	random := rand.New(rand.NewPCG(seed, 0))
	in := packetsOf(t, conversations)
	var damaged [][]byte
	for range rounds {
		for _, p := range in.Packets {
			b := bytes.Clone(p.Data)
			switch random.IntN(10) {
			case 0:
				b = b[:1+random.IntN(len(b))]
			case 1, 2, 3:
				for range 1 + random.IntN(2) {
					b[random.IntN(min(len(b), 60))] ^= 1 << random.IntN(8)
				}
				if random.IntN(2) == 0 && len(b) > 20 && b[0] == 0x45 { // past the first check
					total := uint32(0)
					b[10], b[11] = 0, 0
					for i := 0; i < 20; i += 2 {
						total += uint32(binary.BigEndian.Uint16(b[i:]))
					}
					total = total&0xffff + total>>16
					binary.BigEndian.PutUint16(b[10:], ^uint16(total+total>>16))
				}
			}
			damaged = append(damaged, b)
		}
	}
	name := filepath.Join(t.TempDir(), "in.pcap")
	require.NoError(t, os.WriteFile(name, pkttest.Pcap(layers.LinkTypeRaw, damaged...), 0o600))
	d := result(t, "-in", name, "-inside", "192.0.2.0/24,2001:db8:c::/64", "-frontend", frontIPs)
	assert.Equal(t, len(damaged), d.Packets)
	assert.Greater(t, d.Roundtrip.Compared, len(damaged)/4)
	assert.Greater(t, len(d.Reasons), 12)
}

// FuzzReplay replays captures with a few bytes changed, through a preset that the length
// of the file chooses: real ones cut short, odd ones, and hostile ones by a seed. It
// ends with a complaint, or with a report in which everything adds up and no packet is
// different. Bytes that make no file are also taken as packets, each behind its length.
//
// The fuzzer chooses changes, not files, because it takes as many attempts as the square
// of the length of what it chooses to shorten what reaches something new.
func FuzzReplay(f *testing.F) {
	builtin, err := os.ReadFile(conversations)
	require.NoError(f, err)
	var packed []byte
	for _, p := range append(handshake(a+":4000", remote+":80"), query(a+":4000", remote+":53"), query("[fd00::4]:4000", "[2001:db8:5::7]:53"), query("[2001:db8:5::7]:53", "[fd00::4]:4000")) {
		packed = append(append(packed, byte(len(p))), p...)
	}
	raw := func(packets ...[]byte) []byte { return pkttest.Pcap(layers.LinkTypeRaw, packets...) }
	files := [][]byte{
		builtin[:24+16+60], packed,
		raw(handshake(a+":4000", remote+":80")...),
		raw(handshake("[fd00::4]:4000", "[2001:db8:5::7]:80")...),
		raw(pkttest.Fragments(pkttest.UDP(a+":4000", remote+":53", string(make([]byte, 100))), 48, 9)...),
		raw(query(a+":4000", b+":53"), pkttest.ICMPEcho(a, remote, 1, 1), pkttest.ICMPEchoReply(remote, a, 1, 1)),
		raw(pkttest.UDP("[fd00::4]:1", "[2001:db8:5::7]:2", "x", pkttest.Extension(60, make([]byte, 14)...), pkttest.Extension(0, make([]byte, 6)...))),
		pkttest.Pcap(layers.LinkTypePPP, append([]byte{0xff, 3, 0, 0x21}, query(a+":4000", remote+":53")...)),
		pkttest.PcapCut(layers.LinkTypeRaw, 60, handshake(a+":4000", remote+":80")...),
	}
	for base := range uint64(len(files) + 30) {
		f.Add(base, []byte{})
	}
	dir := f.TempDir()
	in, out := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
	f.Fuzz(func(t *testing.T, base uint64, changes []byte) {
		const changeLen, most = 3, 8 // where, in two bytes, and what
		if len(changes) > changeLen*most {
			t.Skip("would take too long to shorten")
		}
		var file []byte
		if base < uint64(len(files)) {
			file = bytes.Clone(files[base])
		} else {
			file = newHostile(base - uint64(len(files))).capture()
		}
		for ; len(changes) >= changeLen && len(file) > 0; changes = changes[changeLen:] {
			file[int(binary.BigEndian.Uint16(changes))%len(file)] ^= changes[2]
		}
		if c, _ := capture.Salvage(file); c == nil {
			require.NoError(t, os.WriteFile(in, file, 0o600))
			if status, stdout, stderr := invoke(t, "-in", in, "-inside", insides, "-frontend", frontIPs); status != 1 || stdout != "" || stderr == "" {
				t.Fatalf("status %d, %q, %q", status, stdout, stderr)
			}
			var packets [][]byte
			for len(file) > 0 {
				n := min(int(file[0]), len(file)-1)
				packets, file = append(packets, file[1:1+n]), file[1+n:]
			}
			file = pkttest.Pcap(layers.LinkTypeRaw, packets...)
		}
		require.NoError(t, os.WriteFile(in, file, 0o600))
		presets := preset.All()
		name := presets[len(file)%len(presets)].Name
		args := []string{"-in", in, "-inside", insides, "-frontend", frontIPs, "-preset", name, "-tcp-reset", "-fragments", "-out", out, "-json"}
		if name == command.DefaultPreset {
			args = append(args, "-icmp")
		}
		status, stdout, stderr := invoke(t, args...)
		if stdout == "" {
			if status != 1 || !strings.HasPrefix(stderr, "replay: -") {
				t.Fatalf("status %d, %q, %q", status, stdout, stderr)
			}
			return
		}
		d := parse(t, stdout)
		if (d.Verdicts.Forward == 0) != (status == 1) {
			t.Fatalf("status %d, %q", status, stderr)
		}
		if d.Roundtrip.Compared < d.Verdicts.Bypass || d.Roundtrip.Compared > d.Packets-d.Verdicts.Drop {
			t.Fatalf("%+v", d)
		}
		written, err := os.ReadFile(out)
		require.NoError(t, err)
		if _, err := capture.Read(written); err != nil {
			t.Fatal(err)
		}
	})
}
