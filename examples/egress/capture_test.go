package main

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// datagram returns a small IPv4 packet with a UDP query in it.
func datagram(t testing.TB) []byte { return udp4(t, "192.0.2.11:40000", "198.51.100.53:53") }

// pcapOf returns a pcap file of one link type, one second between frames.
func pcapOf(t testing.TB, link layers.LinkType, frames ...[]byte) []byte {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	require.NoError(t, w.WriteFileHeader(65535, link))
	for i, f := range frames {
		require.NoError(t, w.WritePacket(info(i, len(f)), f))
	}
	return file.Bytes()
}

// pcapngOf returns a pcapng file with an interface per frame, so that link types
// may differ.
func pcapngOf(t testing.TB, links []layers.LinkType, frames ...[]byte) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&file, pcapgo.NgInterface{LinkType: links[0]}, pcapgo.DefaultNgWriterOptions)
	require.NoError(t, err)
	for i, f := range frames {
		at := info(i, len(f))
		if i > 0 {
			at.InterfaceIndex, err = w.AddInterface(pcapgo.NgInterface{LinkType: links[i]})
			require.NoError(t, err)
		}
		require.NoError(t, w.WritePacket(at, f))
	}
	require.NoError(t, w.Flush())
	return file.Bytes()
}

func info(i, n int) gopacket.CaptureInfo {
	return gopacket.CaptureInfo{Timestamp: time.Unix(1_700_000_000+int64(i), 0), CaptureLength: n, Length: n}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestReadCaptureUnderstandsLinkTypes(t *testing.T) {
	ip := datagram(t)
	macs := make([]byte, 12)
	for name, c := range map[string]struct {
		link  layers.LinkType
		frame []byte
	}{
		"Ethernet":             {layers.LinkTypeEthernet, join(macs, []byte{8, 0}, ip)},
		"Ethernet padded":      {layers.LinkTypeEthernet, join(macs, []byte{8, 0}, ip, make([]byte, 20))},
		"Ethernet with a VLAN": {layers.LinkTypeEthernet, join(macs, []byte{0x81, 0, 0, 7, 8, 0}, ip)},
		"Ethernet with QinQ":   {layers.LinkTypeEthernet, join(macs, []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0}, ip)},
		"Linux cooked":         {layers.LinkTypeLinuxSLL, join(make([]byte, 14), []byte{8, 0}, ip)},
		"Linux cooked v2":      {linkSLL2, join([]byte{8, 0}, make([]byte, 18), ip)},
		"raw":                  {layers.LinkTypeRaw, ip},
		"raw of BSD":           {linkRawBSD, ip},
		"raw of OpenBSD":       {linkRawOpen, ip},
		"raw IPv4":             {layers.LinkTypeIPv4, ip},
		"null":                 {layers.LinkTypeNull, join([]byte{2, 0, 0, 0}, ip)},
		"loop":                 {layers.LinkTypeLoop, join([]byte{0, 0, 0, 2}, ip)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range [][]byte{pcapOf(t, c.link, c.frame), pcapngOf(t, []layers.LinkType{c.link}, c.frame)} {
				got, err := readCapture(file)
				require.NoError(t, err)
				r := newRecording(got)
				require.Len(t, r.packets, 1)
				assert.Equal(t, ip, r.packets[0].data)
			}
		})
	}
}

// The real SLL2 link type does not fit the byte that pcapgo keeps of it.
func TestReadCaptureKnowsLinuxCookedV2ByItsNumber(t *testing.T) {
	ip := datagram(t)
	file := pcapOf(t, linkSLL2, join([]byte{8, 0}, make([]byte, 18), ip))
	binary.LittleEndian.PutUint32(file[20:], 276)
	got, err := readCapture(file)
	require.NoError(t, err)
	assert.Equal(t, ip, got.packets[0].data)
}

func TestReadCaptureMixesLinkTypesAndSortsByTime(t *testing.T) {
	a, b := udp4(t, "192.0.2.1:1111", "198.51.100.53:53"), udp4(t, "192.0.2.2:2222", "198.51.100.53:53")
	file := pcapngOf(t, []layers.LinkType{layers.LinkTypeRaw, layers.LinkTypeEthernet}, a, join(make([]byte, 12), []byte{8, 0}, b))
	got, err := readCapture(file)
	require.NoError(t, err)
	require.Len(t, got.packets, 2)
	assert.Equal(t, b, got.packets[1].data)

	swapped := pcapOf(t, layers.LinkTypeRaw, a, b)
	binary.LittleEndian.PutUint32(swapped[24:], 1_800_000_000)
	got, err = readCapture(swapped)
	require.NoError(t, err)
	assert.Equal(t, b, got.packets[0].data)
	assert.Zero(t, got.packets[0].at)
}

func TestReadCaptureReadsBigEndianAndSmallSnapLengths(t *testing.T) {
	ip := datagram(t)
	file := pcapOf(t, layers.LinkTypeRaw, ip)
	for _, at := range []int{0, 16, 20, 24, 28, 32, 36} {
		binary.BigEndian.PutUint32(file[at:], binary.LittleEndian.Uint32(file[at:]))
	}
	binary.BigEndian.PutUint16(file[4:], 2)
	binary.BigEndian.PutUint16(file[6:], 4)
	binary.BigEndian.PutUint32(file[16:], 1) // the snap length lies, as in files of some writers
	got, err := readCapture(file)
	require.NoError(t, err)
	assert.Equal(t, ip, got.packets[0].data)
}

func TestReadCaptureCountsFramesWithoutIP(t *testing.T) {
	macs := make([]byte, 12)
	got, err := readCapture(pcapOf(t, layers.LinkTypeEthernet,
		join(macs, []byte{8, 6}, make([]byte, 28)),
		join(macs, []byte{0x88, 0xcc}, make([]byte, 28)),
		join(macs, []byte{8, 0}),
		join(macs, []byte{8, 0}, datagram(t))))
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"ARP": 1, "EtherType 0x88cc": 1, "too short": 1}, got.skipped)
	assert.Equal(t, 4, got.frames)
	assert.Len(t, got.packets, 1)
}

func TestReadCaptureRefusesDamagedFiles(t *testing.T) {
	pcap, pcapng := pcapOf(t, layers.LinkTypeRaw, datagram(t), datagram(t)), pcapngOf(t, []layers.LinkType{layers.LinkTypeRaw}, datagram(t))
	huge := bytes.Clone(pcap)
	binary.LittleEndian.PutUint32(huge[32:], 1<<30)
	block := bytes.Clone(pcapng)
	binary.LittleEndian.PutUint32(block[4:], 1<<30)
	lengths := bytes.Clone(pcapng)
	lengths[len(lengths)-4] ^= 4
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":                       {nil, "the file is empty"},
		"three bytes":                 {[]byte("abc"), "not a pcap or pcapng file"},
		"text":                        {[]byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), "not a pcap or pcapng file"},
		"gzip":                        {[]byte{0x1f, 0x8b, 8, 0, 0, 0}, "gunzip it first"},
		"pcap without frames":         {pcap[:24], "no frames in the capture"},
		"pcap header cut":             {pcap[:20], "truncated: the header needs 24 bytes, the file has 20"},
		"pcap frame header cut":       {pcap[:30], "truncated: frame 1 ends after 6 bytes of its header"},
		"pcap frame without its data": {pcap[:40], "truncated: frame 1 has 0 of its 33 bytes"},
		"pcap frame cut":              {pcap[:len(pcap)-1], "truncated: frame 2 has 32 of its 33 bytes"},
		"pcap frame too long":         {huge, "damaged: frame 1 claims 1073741824 bytes"},
		"pcapng block cut":            {pcapng[:len(pcapng)-2], "truncated: block 3 has"},
		"pcapng block header cut":     {pcapng[:30], "truncated: block 1 has 30 of its"},
		"pcapng block too long":       {block, "damaged: block 1 claims"},
		"pcapng two lengths":          {lengths, "damaged: block 3 has two different lengths"},
		"no IP":                       {pcapOf(t, layers.LinkTypeEthernet, join(make([]byte, 12), []byte{8, 6}, make([]byte, 28))), "no IP packet among 1 frames"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readCapture(c.file)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// Whatever the file holds, reading it ends with an error or with packets that
// the rest of the program can work on.
func FuzzReadCapture(f *testing.F) {
	f.Add(pcapOf(f, layers.LinkTypeEthernet, join(make([]byte, 12), []byte{0x81, 0, 0, 7, 8, 0}, datagram(f))))
	f.Add(pcapOf(f, layers.LinkTypeRaw, datagram(f), tcp4(f, "192.0.2.1:4000", "203.0.113.1:80", "S", 1)))
	f.Add(pcapngOf(f, []layers.LinkType{layers.LinkTypeLinuxSLL}, join(make([]byte, 14), []byte{8, 0}, datagram(f))))
	f.Add(builtin[:2000])
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := readCapture(file)
		if err != nil {
			return
		}
		r := newRecording(c)
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

func TestBuiltinCaptureKeepsItsPromises(t *testing.T) { checkRecording(t, builtin) }

// checkRecording holds a recording against what the command promises of it.
func checkRecording(t *testing.T, file []byte) {
	t.Helper()
	assert.Less(t, len(file), 600<<10)
	content, err := readCapture(file)
	require.NoError(t, err)
	r := newRecording(content)
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
