package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// hostile makes captures like those of the suites that capture readers and packet
// dissectors are tested with: conversations that are sound, malformed or damaged,
// in all kinds of links, in files that are sound, damaged or lie.
type hostile struct {
	*rand.Rand
	malformed []malformed
}

func newHostile(seed uint64) *hostile {
	h := &hostile{Rand: rand.New(rand.NewPCG(seed, 0))}
	all := malformedPackets()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		h.malformed = append(h.malformed, all[name])
	}
	return h
}

// bytes returns n random bytes.
func (h *hostile) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.Uint32())
	}
	return b
}

// ends returns a host inside and one outside, of a few.
func (h *hostile) ends() (in, out string, v6 bool) {
	port := uint16(1 + h.IntN(5)*1000)
	host := byte('1' + h.IntN(4))
	if h.IntN(3) == 0 {
		return at("fd00::"+string(host), port), at("2001:db8:5::"+string(host), 53), true
	}
	return at("10.0.0."+string(host), port), at("203.0.113."+string(host), 53), false
}

// conversation returns a few packets that belong together.
func (h *hostile) conversation() (packets [][]byte) {
	in, out, v6 := h.ends()
	family := byte('4')
	if v6 {
		family = '6'
	}
	query, answer := pkttest.UDP(in, out, "query"), pkttest.UDP(out, in, "answer")
	inHost, outHost := host1(in), host1(out)
	switch h.IntN(8) {
	case 0:
		packets = handshake(in, out)
	case 1:
		packets = [][]byte{query, answer, answer}
	case 2: // fragments, shuffled, some twice, missing or moved
		packets = slices.Concat(pieces(in, out, h.Uint32N(3)), [][]byte{query}, pieces(out, in, h.Uint32N(3)))
		for range h.IntN(4) {
			i := h.IntN(len(packets))
			packets[i] = packets[h.IntN(len(packets))]
			if f := locate(packets[i]); f.isTail() {
				packets[i] = overlap(packets[i])
			}
		}
		h.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	case 3:
		id := uint16(h.Uint32())
		request := pkttest.ICMPEcho(inHost, outHost, id, 1)
		packets = [][]byte{request, pkttest.ICMPEchoReply(outHost, inHost, id, 1), unreachable(outHost, inHost, request)}
	case 4: // errors about anything, cut anywhere
		about := query
		if h.IntN(2) == 0 {
			about = pieces(in, out, 1)[h.IntN(3)]
		}
		quote := about[:h.IntN(len(about)+1)]
		packets = [][]byte{query, answer, unreachable(outHost, inHost, quote), unreachable(inHost, outHost, answer[:h.IntN(len(answer)+1)])}
	case 5: // tunnels
		packets = [][]byte{pkttest.IP(inHost, outHost, 4, query), pkttest.IP(inHost, outHost, 47, append([]byte{0, 0, 8, 0}, query...)), pkttest.IP(outHost, inHost, 41, query)}
	case 6: // a chain of extension headers
		if !v6 {
			return [][]byte{pkttest.UDP(in, out, "x", pkttest.IPOptions(1, 1, 1, 0))}
		}
		var chain []pkttest.Field
		for range 1 + h.IntN(12) {
			chain = append(chain, pkttest.Extension([]uint8{0, 43, 60, 135}[h.IntN(4)], make([]byte, 6)...))
		}
		packets = [][]byte{pkttest.UDP(in, out, "x", chain...)}
	default:
		m := h.malformed[h.IntN(len(h.malformed))]
		if !strings.ContainsRune(m.families, rune(family)) {
			return nil
		}
		packets = [][]byte{query, m.build(in, out), m.build(out, in)}
	}
	return packets
}

// damage changes bits of packets, sometimes with a header checksum that fits, and
// cuts them.
func (h *hostile) damage(packets [][]byte) {
	for i, p := range packets {
		if len(p) == 0 || h.IntN(4) > 0 {
			continue
		}
		p = bytes.Clone(p)
		for range 1 + h.IntN(3) {
			p[h.IntN(min(len(p), 64))] ^= 1 << h.IntN(8)
		}
		if len(p) >= 20 && p[0]>>4 == 4 && h.IntN(2) == 0 {
			binary.BigEndian.PutUint16(p[10:], 0)
			binary.BigEndian.PutUint16(p[10:], headerSum(p[:20]))
		}
		if h.IntN(3) == 0 {
			p = p[:h.IntN(len(p))]
		}
		packets[i] = p
	}
}

// headerSum returns the checksum of a header.
func headerSum(b []byte) uint16 {
	sum := []byte{0xff, 0xff}
	amend(sum, make([]byte, len(b)), b)
	return binary.BigEndian.Uint16(sum)
}

// linked returns a packet as a frame of a link type.
func (h *hostile) linked(p []byte) (layers.LinkType, []byte) {
	ether := []byte{8, 0}
	if len(p) > 0 && p[0]>>4 == 6 {
		ether = []byte{0x86, 0xdd}
	}
	ppp := []byte{0, 0x21}
	if ether[0] != 8 {
		ppp[1] = 0x57
	}
	macs := make([]byte, 12)
	switch h.IntN(16) {
	case 0:
		return layers.LinkTypeEthernet, slices.Concat(macs, ether, p)
	case 1:
		return layers.LinkTypeEthernet, slices.Concat(macs, bytes.Repeat([]byte{0x81, 0, 0, 1}, h.IntN(50)), ether, p)
	case 2:
		return layers.LinkTypeEthernet, slices.Concat(macs, []byte{0x88, 0x47}, bytes.Repeat([]byte{0, 0, 0, 9}, h.IntN(50)), []byte{0, 0, 1, 9}, p)
	case 3:
		return layers.LinkTypeEthernet, slices.Concat(macs, []byte{0x88, 0x64, 0x11, 0, 0, 1, 0, 0}, ppp, p)
	case 4:
		return layers.LinkTypeEthernet, slices.Concat(macs, []byte{0, 9, 0xaa, 0xaa, 3, 0, 0, 0}, ether, p)
	case 5:
		return layers.LinkTypeNull, slices.Concat([]byte{2, 0, 0, 0}, p)
	case 6:
		return layers.LinkTypeLoop, slices.Concat([]byte{0, 0, 0, 2}, p)
	case 7:
		return layers.LinkTypeLinuxSLL, slices.Concat(make([]byte, 14), ether, p)
	case 8:
		return 20, slices.Concat(ether, make([]byte, 18), p) // becomes SLL2, which gopacket does not know
	case 9:
		return layers.LinkTypePPP, slices.Concat([]byte{0xff, 3}, ppp, p)
	case 10:
		return layers.LinkTypeIEEE802_11, slices.Concat([]byte{8, 0}, make([]byte, 22), []byte{0xaa, 0xaa, 3, 0, 0, 0}, ether, p, make([]byte, 4))
	case 11:
		return 104, slices.Concat([]byte{0x0f, 0}, ether, p)
	case 12:
		return 192, slices.Concat([]byte{0, 0, 8, 0, 1, 0, 0, 0}, macs, ether, p)
	case 13:
		return layers.LinkType(h.IntN(256)), slices.Concat(h.bytes(h.IntN(30)), p)
	}
	return layers.LinkTypeRaw, p
}

// capture returns the bytes of a capture file.
func (h *hostile) capture() []byte {
	var packets [][]byte
	for range 1 + h.IntN(12) {
		packets = append(packets, h.conversation()...)
	}
	if h.IntN(3) > 0 {
		h.damage(packets)
	}
	if len(packets) == 0 {
		packets = [][]byte{nil}
	}
	var file []byte
	if h.IntN(3) == 0 {
		var links []layers.LinkType
		var frames [][]byte
		for _, p := range packets {
			link, frame := h.linked(p)
			links, frames = append(links, link), append(frames, frame)
		}
		file = pkttest.Pcapng(links, frames...)
	} else {
		link, _ := h.linked(nil)
		var frames [][]byte
		for _, p := range packets {
			l, frame := h.linked(p)
			for range 40 {
				if l == link {
					break
				}
				l, frame = h.linked(p)
			}
			frames = append(frames, frame)
		}
		file = pkttest.Pcap(link, frames...)
		if link == 20 {
			binary.LittleEndian.PutUint32(file[20:], 276)
		}
		if h.IntN(4) == 0 {
			binary.LittleEndian.PutUint32(file, 0xa1b23c4d) // nanoseconds
		}
	}
	return h.spoil(file)
}

// spoil damages a file, or not.
func (h *hostile) spoil(file []byte) []byte {
	words := []uint32{0, 1, 3, 0xffff, 1 << 18, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1}
	switch h.IntN(10) {
	case 0: // cut
		return file[:h.IntN(len(file)+1)]
	case 1, 2: // some word of it says something else
		for range 1 + h.IntN(3) {
			if at := h.IntN(min(len(file), 200)) &^ 3; at+4 <= len(file) {
				binary.LittleEndian.PutUint32(file[at:], words[h.IntN(len(words))])
			}
		}
	case 3: // bits
		for range 1 + h.IntN(20) {
			file[h.IntN(len(file))] ^= 1 << h.IntN(8)
		}
	case 4: // a snap length that lies, or a magic of another format
		magics := []uint32{0xa1b2cd34, 0xa1b23c4d, 0xd4c3b2a1, 0x0a0d0d0a, 0x1a2b3c4d}
		binary.LittleEndian.PutUint32(file, magics[h.IntN(len(magics))])
	case 5: // twice, the second one a section of pcapng or garbage
		return append(file, file...)
	case 6:
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write(file)
		_ = z.Close()
		return zipped.Bytes()[:zipped.Len()-h.IntN(2)*h.IntN(zipped.Len())]
	case 7:
		return append(file, h.bytes(h.IntN(100))...)
	}
	return file
}

// Hundreds of hostile captures, through every preset: a report in which everything
// adds up and nothing is different, or a complaint; never slower than its size
// allows.
func TestHostileCaptures(t *testing.T) {
	const captures = 800
	const atMost, perByte = 10 * time.Second, 100 * time.Microsecond // a stall, on any machine
	presets := preset.All()
	in, out := filepath.Join(t.TempDir(), "in.pcap"), filepath.Join(t.TempDir(), "out.pcap")
	reports, salvaged, compared, reasons := 0, 0, 0, map[string]int{}
	for seed := range uint64(captures) {
		h := newHostile(seed)
		file := h.capture()
		require.NoError(t, os.WriteFile(in, file, 0o600))
		p := presets[int(seed)%len(presets)]
		args := []string{"-in", in, "-inside", insides, "-frontend", frontIPs, "-preset", p.Name, "-out", out, "-json", "-tcp-reset"}
		if h.IntN(4) > 0 {
			args = append(args, "-fragments")
		}
		if strings.HasPrefix(p.Name, "azure-lb") || p.Name == "gcp-cloudnat" {
			args = append(args, "-icmp")
		}
		ctx, cancel := context.WithTimeout(t.Context(), atMost+perByte*time.Duration(len(file)))
		var stdout, stderr bytes.Buffer
		status := run(ctx, args, &stdout, &stderr)
		require.NoError(t, ctx.Err(), "seed %d", seed)
		cancel()
		content, damage := capture.Salvage(file)
		if content == nil {
			require.Equal(t, 1, status, "seed %d", seed)
			require.Contains(t, stderr.String(), damage.Error(), "seed %d", seed)
			continue
		}
		d := parse(t, stdout.String())
		require.Equal(t, d.Verdicts.Forward == 0, status == 1, "seed %d: %s", seed, &stderr)
		require.Equal(t, content.Frames, d.Frames.Total, "seed %d", seed)
		reports++
		compared += d.Roundtrip.Compared
		if damage != nil {
			salvaged++
			require.Equal(t, damage.Error(), d.Frames.Damage, "seed %d", seed)
		}
		for reason, n := range d.Reasons {
			reasons[reason] += n
		}
		_, err := capture.Read(readFile(t, out))
		require.NoError(t, err, "seed %d", seed)
	}
	t.Logf("%d reports, %d of damaged files, %d packets compared, reasons %v", reports, salvaged, compared, reasons)
	assert.Greater(t, reports, captures/2)
	assert.Greater(t, salvaged, captures/20)
	assert.Greater(t, compared, captures)
	assert.Greater(t, len(reasons), 30)
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	file, err := os.ReadFile(name)
	require.NoError(t, err)
	return file
}

// The same through a translator that does all it can: lets in whomever, is a router,
// translates and makes ICMP errors, holds SYNs.
func TestHostileCapturesThroughARouter(t *testing.T) {
	const captures = 400
	compared, made := 0, 0
	for seed := range uint64(captures) {
		content, _ := capture.Salvage(newHostile(seed).capture())
		if content == nil {
			continue
		}
		o, err := parseOptions([]string{"-in", "x", "-inside", insides, "-frontend", frontIPs, "-fragments", "-icmp"}, nil)
		require.NoError(t, err)
		hosts, err := o.hosts(content)
		if err != nil || len(hosts) == 0 {
			continue
		}
		config, err := o.translator(hosts)
		require.NoError(t, err)
		filter := []snat.Filtering{snat.EndpointIndependentFiltering, snat.AddressDependentFiltering}[seed%2]
		owned(&config).TCP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: filter, Share: snat.ShareNever}
		owned(&config).UDP = owned(&config).TCP
		config.ICMP.TTL, config.ICMP.Problems, config.ICMP.ProtocolUnreachable = snat.TTLRouter, true, true
		config.ICMP.Refusals, config.ICMP.ErrorRate = snat.RefuseProhibited, 1000
		config.HoldSYN.Max = 10
		config.Instances = []snat.Instance{{Name: "inside", Inside: o.inside.values, Ports: []snat.PortRange{
			{Frontend: o.frontends.values[0], First: 1024, Count: 256}, {Frontend: o.frontends.values[1], First: 1024, Count: 256},
		}}}
		nat, err := snat.New(config)
		require.NoError(t, err)
		r := newReplay(nat, &o, &config, content.Begin, nil)
		require.NoError(t, r.play(t.Context(), content.Packets), "seed %d", seed)
		nat.Close()
		require.Zero(t, r.different, "seed %d: %s", seed, r.firstDifference)
		require.Equal(t, len(content.Packets), r.forwarded+r.bypassed+r.dropped, "seed %d", seed)
		compared, made = compared+r.compared, made+r.errors
	}
	assert.Greater(t, compared, captures)
	assert.Greater(t, made, captures/4)
}
