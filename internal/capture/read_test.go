package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// datagram returns a small IPv4 packet with a UDP query in it.
func datagram() []byte { return pkttest.UDP("192.0.2.11:40000", "198.51.100.53:53", "query") }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Link types above 255 are not those that remain of them in a byte: SLL2 is no
// LINKTYPE 20, and 257 no Ethernet.
func TestReadTakesLinkTypesWhole(t *testing.T) {
	sll2 := join([]byte{8, 0}, make([]byte, 18), datagram())
	ethernet := join(make([]byte, 12), []byte{8, 0}, datagram())
	for _, c := range []struct {
		link    uint16
		frame   []byte
		packets int
	}{{276, sll2, 1}, {20, sll2, 0}, {1, ethernet, 1}, {257, ethernet, 0}} {
		pcap := pkttest.Pcap(layers.LinkTypeRaw, c.frame)
		binary.LittleEndian.PutUint16(pcap[20:], c.link)
		pcapng := pkttest.Pcapng([]layers.LinkType{layers.LinkTypeRaw}, c.frame)
		at := binary.LittleEndian.Uint32(pcapng[4:]) // the interface block follows the section
		require.Equal(t, byte(layers.LinkTypeRaw), pcapng[at+8])
		binary.LittleEndian.PutUint16(pcapng[at+8:], c.link)
		for _, file := range [][]byte{pcap, pcapng} {
			got, err := Read(file)
			require.NoError(t, err)
			require.Len(t, got.Packets, c.packets, "link type %d", c.link)
			if c.packets == 0 {
				assert.Equal(t, map[string]int{fmt.Sprintf("link type %d", c.link): 1}, got.Skipped)
			}
		}
	}
}

func TestReadMixesLinkTypesAndSortsByTime(t *testing.T) {
	a, b := pkttest.UDP("192.0.2.1:1111", "198.51.100.53:53", "a"), pkttest.UDP("192.0.2.2:2222", "198.51.100.53:53", "b")
	file := pkttest.Pcapng([]layers.LinkType{layers.LinkTypeRaw, layers.LinkTypeEthernet}, a, join(make([]byte, 12), []byte{8, 0}, b))
	got, err := Read(file)
	require.NoError(t, err)
	require.Len(t, got.Packets, 2)
	assert.Equal(t, b, got.Packets[1].Data)

	swapped := pkttest.Pcap(layers.LinkTypeRaw, a, b)
	binary.LittleEndian.PutUint32(swapped[24:], 1_800_000_000)
	got, err = Read(swapped)
	require.NoError(t, err)
	assert.Equal(t, b, got.Packets[0].Data)
	assert.Zero(t, got.Packets[0].At)
}

func TestReadReadsBigEndianAndSmallSnapLengths(t *testing.T) {
	ip := datagram()
	file := pkttest.Pcap(layers.LinkTypeRaw, ip)
	for _, at := range []int{0, 16, 20, 24, 28, 32, 36} {
		binary.BigEndian.PutUint32(file[at:], binary.LittleEndian.Uint32(file[at:]))
	}
	binary.BigEndian.PutUint16(file[4:], 2)
	binary.BigEndian.PutUint16(file[6:], 4)
	binary.BigEndian.PutUint32(file[16:], 1) // the snap length lies, as in files of some writers
	got, err := Read(file)
	require.NoError(t, err)
	assert.Equal(t, ip, got.Packets[0].Data)
}

func TestReadCountsFramesWithoutIP(t *testing.T) {
	macs := make([]byte, 12)
	got, err := Read(pkttest.Pcap(layers.LinkTypeEthernet,
		join(macs, []byte{8, 6}, make([]byte, 28)),
		join(macs, []byte{0x88, 0xcc}, make([]byte, 28)),
		join(macs, []byte{8, 0}),
		join(macs, []byte{8, 0}, datagram())))
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"ARP": 1, "EtherType 0x88cc": 1, "too short": 1}, got.Skipped)
	assert.Equal(t, 4, got.Frames)
	assert.Len(t, got.Packets, 1)
}

func TestReadRefusesDamagedFiles(t *testing.T) {
	pcap, pcapng := pkttest.Pcap(layers.LinkTypeRaw, datagram(), datagram()), pkttest.Pcapng([]layers.LinkType{layers.LinkTypeRaw}, datagram())
	huge := bytes.Clone(pcap)
	binary.LittleEndian.PutUint32(huge[32:], 1<<30)
	block := bytes.Clone(pcapng)
	binary.LittleEndian.PutUint32(block[4:], 1<<30)
	lengths := bytes.Clone(pcapng)
	lengths[len(lengths)-4] ^= 4
	version := bytes.Clone(pcap)
	version[4] = 1
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":                       {nil, "the file is empty"},
		"three bytes":                 {[]byte("abc"), "not a pcap or pcapng file"},
		"text":                        {[]byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), "not a pcap or pcapng file"},
		"gzip":                        {[]byte{0x1f, 0x8b, 8, 0, 0, 0}, "damaged compressed file: unexpected EOF"},
		"pcap header cut":             {pcap[:20], "truncated: the header needs 24 bytes, the file has 20"},
		"pcap frame header cut":       {pcap[:30], "truncated: frame 1 ends after 6 bytes of its header"},
		"pcap frame without its data": {pcap[:40], "truncated: frame 1 has 0 of its 33 bytes"},
		"pcap frame cut":              {pcap[:len(pcap)-1], "truncated: frame 2 has 32 of its 33 bytes"},
		"pcap frame too long":         {huge, "damaged: frame 1 claims 1073741824 bytes"},
		"pcapng block cut":            {pcapng[:len(pcapng)-2], "truncated: block 3 has"},
		"pcapng block header cut":     {pcapng[:30], "truncated: block 1 has 30 of its"},
		"pcapng block too long":       {block, "damaged: block 1 claims"},
		"pcapng two lengths":          {lengths, "damaged: block 3 has two different lengths"},
		"pcap of another version":     {version, "pcap of version 1, not 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(c.file)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// interfaceBlock returns a pcapng file of a section and an interface with one
// option.
func interfaceBlock(code, length uint16, value ...byte) []byte {
	le := binary.LittleEndian
	block := func(kind uint32, body []byte) []byte {
		length := uint32(len(body) + 12)
		b := le.AppendUint32(le.AppendUint32(nil, kind), length)
		return le.AppendUint32(append(b, body...), length)
	}
	section := append(le.AppendUint32(nil, magicByteOrder), 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)
	body := []byte{101, 0, 0, 0, 0, 0, 0, 0}
	body = le.AppendUint16(le.AppendUint16(body, code), length)
	return join(block(magicPcapng, section), block(blockInterface, append(body, value...)))
}

// frameBlock returns an enhanced packet block.
func frameBlock(id uint32, stamp uint64, kept uint32, data []byte) []byte {
	le := binary.LittleEndian
	length := uint32(32 + len(data))
	b := le.AppendUint32(le.AppendUint32(nil, blockEnhanced), length)
	for _, word := range []uint32{id, uint32(stamp >> 32), uint32(stamp), kept, kept} {
		b = le.AppendUint32(b, word)
	}
	return le.AppendUint32(append(b, data...), length)
}

func TestReadBelievesNoField(t *testing.T) {
	const resolution = 9
	data := make([]byte, 8)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"interface that is not there":  {join(interfaceBlock(0, 0), frameBlock(1, 0, 8, data)), "damaged: block 3 names interface 1, of 1"},
		"frame longer than its block":  {join(interfaceBlock(0, 0), frameBlock(0, 0, 9, data)), "damaged: block 3 claims a frame of 9 bytes, in 8"},
		"frame of 4 GB":                {join(interfaceBlock(0, 0), frameBlock(0, 0, 1<<32-1, data)), "claims a frame of 4294967295 bytes"},
		"resolution of ten to the 64":  {interfaceBlock(resolution, 1, 64, 0, 0, 0), "damaged: block 2 has a timestamp resolution of 0x40"},
		"resolution of two to the 64":  {interfaceBlock(resolution, 1, 0xc0, 0, 0, 0), "damaged: block 2 has a timestamp resolution of 0xc0"},
		"option longer than its block": {interfaceBlock(2, 9, 0, 0, 0, 0), "damaged: block 2 has an option of 9 bytes, in 4"},
		"section of another version":   {patch(interfaceBlock(0, 0), 12, 2), "block 1 does not begin a section of pcapng version 1"},
		"packet without an interface":  {join(interfaceBlock(0, 0)[:28], frameBlock(0, 0, 8, data)), "damaged: block 2 names interface 0, of 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(c.file)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func patch(b []byte, at int, value byte) []byte {
	b[at] = value
	return b
}

func TestReadKnowsTimestampResolutions(t *testing.T) {
	const resolution = 9
	for _, c := range []struct {
		resolution byte
		stamp      uint64
		want       time.Duration
	}{
		{6, 1_500_000, 1500 * time.Millisecond},
		{9, 1_500_000_000, 1500 * time.Millisecond},
		{0, 7, 7 * time.Second},
		{0x80 | 10, 3 << 9, 1500 * time.Millisecond},
		{0x80 | 63, 3 << 62, 1500 * time.Millisecond},
		{19, 15_000_000_000_000_000_000, 1500 * time.Millisecond},
	} {
		file := join(interfaceBlock(resolution, 1, c.resolution, 0, 0, 0), frameBlock(0, c.stamp, 8, make([]byte, 8)))
		got, err := Read(file)
		require.NoError(t, err, "%#02x", c.resolution)
		assert.Equal(t, c.want, got.Begin.Sub(time.Unix(0, 0)), "%#02x", c.resolution)
	}
}

func TestReadCountsCutFrames(t *testing.T) {
	file := pkttest.Pcap(layers.LinkTypeRaw, datagram(), datagram())
	binary.LittleEndian.PutUint32(file[36:], 1500) // length on the wire
	got, err := Read(file)
	require.NoError(t, err)
	assert.Equal(t, 1, got.Cut)
	assert.Len(t, got.Packets, 2)
}

// A capture without frames is one, whatever its interfaces say.
func TestReadTakesEmptyCaptures(t *testing.T) {
	for _, file := range [][]byte{pkttest.Pcap(layers.LinkTypeRaw), interfaceBlock(9, 0)} {
		got, err := Read(file)
		require.NoError(t, err)
		assert.Zero(t, got.Frames)
		assert.Empty(t, got.Packets)
	}
}

// Salvage returns what Read refuses: all frames but the damaged ones.
func TestSalvageSkipsDamage(t *testing.T) {
	long := pkttest.Pcap(layers.LinkTypeRaw, make([]byte, MaxFrameLen), datagram())
	long = slices.Insert(long, 40, make([]byte, 4)...)
	binary.LittleEndian.PutUint32(long[32:], MaxFrameLen+4)
	pcap := pkttest.Pcap(layers.LinkTypeRaw, datagram(), datagram())
	pcapng := join(interfaceBlock(0, 0), frameBlock(0, 0, 8, make([]byte, 8)))
	zipped := compressed(t, pcap)
	for name, c := range map[string]struct {
		file            []byte
		want            string
		frames, damaged int
	}{
		"sound":               {pcap, "", 2, 0},
		"frame cut":           {pcap[:len(pcap)-1], "truncated: frame 2 has 32 of its 33 bytes", 2, 1},
		"frame header cut":    {pcap[:80], "truncated: frame 2 ends after 7 bytes", 2, 1},
		"frame too long":      {long, "damaged: frame 1 has 262148 bytes", 2, 1},
		"frame of 4 GB":       {join(pcapng, frameBlock(0, 0, 1<<32-1, make([]byte, 8)), frameBlock(0, 0, 8, make([]byte, 8))), "damaged: block 4 claims a frame of 4294967295 bytes, in 8", 3, 1},
		"unknown interface":   {join(pcapng, frameBlock(7, 0, 8, make([]byte, 8)), frameBlock(8, 0, 8, make([]byte, 8))), "damaged: block 4 names interface 7, of 1", 3, 2},
		"frame block cut":     {pcapng[:len(pcapng)-2], "truncated: block 3 has 38 of its 40 bytes", 1, 1},
		"length of no block":  {join(pcapng, []byte{0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}), "damaged: block 4 claims a length of 3 bytes", 1, 0},
		"option beyond end":   {join(pcapng, interfaceBlock(2, 9, 0, 0, 0, 0)), "damaged: block 5 has an option of 9 bytes, in 4", 1, 0},
		"compressed":          {zipped, "", 2, 0},
		"compressed, cut":     {zipped[:len(zipped)-9], "damaged compressed file: unexpected EOF", 2, 0},
		"compressed, altered": {patch(bytes.Clone(zipped), len(zipped)-8, 0xff), "damaged compressed file: gzip: invalid checksum", 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Salvage(c.file)
			require.NotNil(t, got)
			assert.Equal(t, c.frames, got.Frames)
			assert.Equal(t, c.damaged, got.Skipped["damaged"])
			assert.Len(t, got.Packets, c.frames-c.damaged)
			strict, strictErr := Read(c.file)
			assert.Equal(t, err, strictErr)
			if c.want == "" {
				require.NoError(t, err)
				assert.Equal(t, got, strict)
				return
			}
			assert.ErrorContains(t, err, c.want)
			assert.Nil(t, strict)
		})
	}
	got, err := Salvage([]byte("GET / HTTP/1.1"))
	require.Error(t, err)
	assert.Nil(t, got)
}

// A small file must not become a large one without limit.
func TestCompressedFilesAreBounded(t *testing.T) {
	file, err := decompress(compressed(t, make([]byte, 1<<20)), 1000)
	assert.ErrorContains(t, err, "holds more than 1000; gunzip it first")
	assert.Len(t, file, 1000)
	file, err = decompress(compressed(t, make([]byte, 1000)), 1000)
	require.NoError(t, err)
	assert.Len(t, file, 1000)
	for n, most := range map[int]int64{0: 32 << 20, 306 << 10: 32 << 20, 4 << 20: 128 << 20, 1 << 30: 256 << 20} {
		assert.Equal(t, most, mostInflated(n))
	}
}

// Nor must it take much more memory than it may hold.
func TestCompressedFilesTakeLittleMemory(t *testing.T) {
	pkttest.OneGoroutine(t)
	header := pkttest.Pcap(layers.LinkTypeEthernet)
	bomb := compressed(t, append(header, make([]byte, 40<<20)...)) // frames without any bytes
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := Salvage(bomb)
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "gunzip it first")
	assert.Equal(t, c.Frames, c.Skipped["too short"]+c.Skipped["damaged"])
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(80<<20))
}

// Frames without a time that makes sense stay where they are in the file.
func TestReadKeepsFramesWithoutATime(t *testing.T) {
	const offset = 14
	simple := func(data []byte) []byte {
		le := binary.LittleEndian
		n := uint32(16 + len(data))
		b := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, blockSimple), n), uint32(len(data)))
		return le.AppendUint32(append(b, data...), n)
	}
	packet := func(n byte) []byte { return []byte{0x45, n, 0, 0} }
	at := func(seconds uint64, n byte) []byte { return frameBlock(0, seconds*1e6, 4, packet(n)) }
	const never = 1 << 33 // seconds
	s := time.Second
	for name, c := range map[string]struct {
		file    []byte
		order   string // of the packets, by number
		times   []time.Duration
		begin   int64
		untimed int
	}{
		"a simple packet first":    {join(interfaceBlock(0, 0), simple(packet(1)), at(1000, 2)), "12", []time.Duration{0, 0}, 1000, 1},
		"simple packets between":   {join(interfaceBlock(0, 0), at(1000, 1), at(1007, 2), simple(packet(3)), at(1008, 4)), "1234", []time.Duration{0, 7 * s, 7 * s, 8 * s}, 1000, 1},
		"simple packets only":      {join(interfaceBlock(0, 0), simple(packet(1)), simple(packet(2))), "12", []time.Duration{0, 0}, 0, 2},
		"times after all times":    {join(interfaceBlock(0, 0), at(never, 1), at(1000, 2), at(never+5, 3), at(1001, 4)), "1234", []time.Duration{0, 0, 0, s}, 1000, 2},
		"no sensible time at all":  {join(interfaceBlock(offset, 8, 0, 0, 0, 0, 0, 0, 0, 0x80), at(9, 1), at(5, 2)), "12", []time.Duration{0, 0}, 0, 2},
		"a simple one, then order": {join(interfaceBlock(0, 0), simple(packet(1)), at(1000, 2), at(990, 3)), "312", []time.Duration{0, 10 * s, 10 * s}, 990, 1},
		"one in another section":   {join(interfaceBlock(0, 0), at(1000, 1), interfaceBlock(0, 0), simple(packet(2)), at(1001, 3)), "123", []time.Duration{0, 0, s}, 1000, 1},
		"after a frame without IP": {join(interfaceBlock(0, 0), at(1000, 1), frameBlock(0, 1005e6, 0, nil), simple(packet(2))), "12", []time.Duration{0, 5 * s}, 1000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(c.file)
			require.NoError(t, err)
			order, times := "", []time.Duration{}
			for _, p := range got.Packets {
				order, times = order+string('0'+p.Data[1]), append(times, p.At)
			}
			assert.Equal(t, c.order, order)
			assert.Equal(t, c.times, times)
			assert.Equal(t, c.begin, got.Begin.Unix())
			assert.Equal(t, c.untimed, got.Untimed)
		})
	}
}

func compressed(t testing.TB, file []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(file)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

// The pcap of Linux 2.0 to 2.2 has longer record headers.
func TestReadKnowsTheModifiedFormat(t *testing.T) {
	file := pkttest.Pcap(layers.LinkTypeRaw, datagram(), datagram())
	second := len(file) - 16 - len(datagram()) // where its record begins
	file = slices.Insert(file, second+16, make([]byte, 8)...)
	file = slices.Insert(file, 40, make([]byte, 8)...)
	binary.LittleEndian.PutUint32(file, magicPcapModified)
	got, err := Read(file)
	require.NoError(t, err)
	require.Len(t, got.Packets, 2)
	assert.Equal(t, datagram(), got.Packets[1].Data)
}

// Whatever the file holds, reading it ends with an error, or with every frame
// accounted for and packets that follow each other.
func FuzzRead(f *testing.F) {
	f.Add(pkttest.Pcap(layers.LinkTypeEthernet, join(make([]byte, 12), []byte{0x81, 0, 0, 7, 8, 0}, datagram())))
	f.Add(pkttest.Pcap(layers.LinkTypeIEEE80211Radio, datagram()))
	f.Add(pkttest.Pcap(layers.LinkTypePPP, join([]byte{0xff, 3, 0, 0x21}, datagram())))
	f.Add(pkttest.Pcapng([]layers.LinkType{layers.LinkTypeLinuxSLL}, join(make([]byte, 14), []byte{8, 0}, datagram())))
	f.Add(join(interfaceBlock(9, 1, 9, 0, 0, 0), frameBlock(0, 1, 8, make([]byte, 8)), interfaceBlock(0, 0)))
	f.Add(pkttest.PcapCut(layers.LinkTypeRaw, 60, segment(host4, far4, 1, 99), pkttest.Offload(segment(host6, far6, 1, 99))))
	f.Add(pkttest.Pcap(layers.LinkTypeRaw, patched(segment(host4, far4, 1, 99), 2, 0, 0), datagram()))
	for _, l := range layeredPackets {
		f.Add(pcapngOf([]uint16{l.link}, l.frame(f)))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := Read(file)
		if err != nil {
			return
		}
		frames := len(c.Packets)
		for _, n := range c.Skipped {
			frames += n
		}
		if frames != c.Frames || c.Cut > c.Frames {
			t.Fatalf("%d packets and %v are not %d frames, %d cut", len(c.Packets), c.Skipped, c.Frames, c.Cut)
		}
		var last time.Duration
		for i, p := range c.Packets {
			if len(p.Data) == 0 || p.At < last || i == 0 && p.At != 0 {
				t.Fatalf("packet %d of %d bytes at %v after %v", i, len(p.Data), p.At, last)
			}
			last = p.At
		}
		c.Repair(Checksums(len(file) % int(numChecksums)))
		for i, p := range c.Packets {
			if whole := p.AppendTo(nil); !bytes.HasPrefix(whole, p.Data) || len(whole) != len(p.Data)+p.Cut() || len(whole) > MaxFrameLen {
				t.Fatalf("packet %d of %d bytes, cut by %d, has %d", i, len(p.Data), p.Cut(), len(whole))
			}
		}
	})
}
