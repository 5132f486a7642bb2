package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/egress/testdata"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// egress runs the command and returns what it printed.
func egress(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("COLUMNS", "500") // sentences in one piece
	var out, complaints bytes.Buffer
	status = Command{}.Run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// egressJSON runs the command with -json, which must succeed.
func egressJSON(t testing.TB, args ...string) document {
	t.Helper()
	status, stdout, stderr := egress(t, append(args, "-json")...)
	require.Zero(t, status, stderr)
	assert.Empty(t, stderr)
	var d document
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d))
	_, err := decoder.Token()
	require.ErrorIs(t, err, io.EOF, "one object, nothing behind it")
	return d
}

func TestDefaultRunTeachesWithoutFailures(t *testing.T) {
	status, stdout, stderr := egress(t)
	require.Zero(t, status, stderr)
	assert.Empty(t, stderr)
	for _, want := range []string{
		"every one found a SNAT port and every reply its pod",
		"PACKETS", "OUTBOUND IPS", "20.50.1.1", "NODES", "BUSIEST PODS", "BUSIEST DESTINATIONS", "WHAT THIS RUN SHOWS",
		"198.51.100.53:53", "-idle 4m", "got a RST",
	} {
		assert.Contains(t, stdout, want)
	}
	d := egressJSON(t)
	assert.Greater(t, d.Flows.Created, 3000)
	assert.Zero(t, d.SNAT.Connections.Failed)
	assert.Zero(t, d.Packets.Dropped)
	assert.GreaterOrEqual(t, d.RST.Generated, 2*2*50, "two idle connections per copy, two ends each")
}

func TestTooManyPodsExhaustPortsAndAShortIdleTimeoutHelps(t *testing.T) {
	pkttest.OneGoroutine(t)
	crowded := egressJSON(t, "-nodes", "1", "-pods-per-node", "30")
	assert.Positive(t, crowded.SNAT.Connections.Failed)
	assert.Equal(t, crowded.SNAT.Connections.Failed, crowded.Drops["ports"], "a refused conversation stays silent")
	relieved := egressJSON(t, "-nodes", "1", "-pods-per-node", "30", "-idle", "4m")
	assert.Zero(t, relieved.SNAT.Connections.Failed)

	_, stdout, _ := egress(t, "-ports", "8", "-copies", "3")
	assert.Contains(t, stdout, "failed for want of a SNAT port")
	assert.Contains(t, stdout, "No SNAT port of the instance is usable for this destination.")
}

// The numbers of the report agree with each other and with the captures, and
// the captures hold each recorded packet as its pod sent or got it.
func TestReportAndCapturesAgree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "directory")
	d := egressJSON(t, "-out", dir, "-copies", "2", "-ips", "3")

	assert.Equal(t, d.Packets.Outbound+d.Packets.Inbound, d.Packets.Forwarded+d.Packets.Bypassed+d.Packets.Dropped)
	assert.Equal(t, d.Flows.Created, d.Flows.Active+d.Flows.Expired)
	assert.Len(t, d.SNAT.Frontends, 6)
	used := 0
	for _, f := range d.SNAT.Frontends {
		assert.LessOrEqual(t, f.UsedPorts, f.PeakPorts)
		assert.LessOrEqual(t, f.PeakPorts, f.AllocatedPorts)
		used += f.UsedPorts
	}
	assert.Positive(t, used)

	recording := builtinRecording(t)
	assert.Equal(t, 2*len(recording.packets), d.Packets.Outbound+d.Packets.Inbound)
	inside, outside := readPackets(t, filepath.Join(dir, "inside.pcap")), readPackets(t, filepath.Join(dir, "outside.pcap"))
	assert.Len(t, inside, d.Packets.Forwarded+d.RST.Generated/2)
	assert.Len(t, outside, d.Packets.Forwarded+d.RST.Generated/2)

	want := make(map[string]int)
	for _, p := range recording.packets {
		want[anonymous(t, p.data)] += 2
	}
	for name, packets := range map[string][][]byte{"inside": inside, "outside": outside} {
		resets := 0
		missing := maps.Clone(want)
		for _, b := range packets {
			switch key := anonymous(t, b); {
			case missing[key] > 0:
				missing[key]--
			case isPlainReset(t, b):
				resets++
			default:
				t.Errorf("%s: %x was not recorded", name, b)
			}
		}
		for key, n := range missing {
			assert.Zero(t, n, "%s: %x is missing", name, key)
		}
		assert.Equal(t, d.RST.Generated/2, resets, name)
	}
}

// anonymous returns a packet without its endpoints, what copies differ in, and what
// follows from these.
func anonymous(t testing.TB, b []byte) string {
	t.Helper()
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &p))
	b = bytes.Clone(b)
	s := shapeOf(b, &p, true)
	nobody := netip.IPv4Unspecified()
	if s.v6 {
		nobody = netip.IPv6Unspecified()
	}
	dns := p.Proto == wire.ProtoUDP && (wire.UDP(b[p.L4:]).SrcPort() == dnsPort || wire.UDP(b[p.L4:]).DstPort() == dnsPort)
	s.setSource(b, netip.AddrPortFrom(nobody, 9))
	s.setDestination(b, netip.AddrPortFrom(nobody, 9))
	switch h := b[p.L4:]; {
	case p.Proto == wire.ProtoTCP:
		clear(h[4:12])
		clear(h[16:18])
		for o := h[20:wire.TCP(h).DataOffset()]; len(o) > 1; {
			size := 1
			if o[0] > 1 {
				size = int(o[1])
			}
			if o[0] == 5 || o[0] == 8 {
				clear(o[2:size])
			}
			o = o[size:]
		}
	case dns:
		clear(h[6:10])
	}
	return string(b)
}

// isPlainReset reports whether b is a RST without ACK, as the translator makes it.
func isPlainReset(t testing.TB, b []byte) bool {
	t.Helper()
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &p))
	return p.Proto == wire.ProtoTCP && wire.TCP(p.B[p.L4:]).Flags() == wire.RST
}

func readPackets(t testing.TB, name string) (packets [][]byte) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	require.NoError(t, err)
	assert.Equal(t, layers.LinkTypeRaw, r.LinkType())
	last := captureEpoch
	for {
		b, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		require.NoError(t, err)
		assert.False(t, info.Timestamp.Before(last), "time goes on")
		last = info.Timestamp
		packets = append(packets, b)
	}
}

// The captures as tshark sees them: no wrong checksum, no address of the cluster
// outside, none of an outbound IP inside.
func TestCapturesInTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("tshark is required in CI")
	}
	if err != nil {
		t.Skip("tshark is not installed")
	}
	dir := t.TempDir()
	d := egressJSON(t, "-out", dir, "-copies", "3")
	count := func(file, filter string) int {
		t.Helper()
		out, err := exec.Command(tshark, "-r", filepath.Join(dir, file), "-Y", filter, "-T", "fields", "-e", "frame.number",
			"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE").Output()
		require.NoError(t, err)
		return bytes.Count(out, []byte("\n"))
	}
	const (
		bad     = "ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 || _ws.malformed"
		good    = "tcp.checksum.status == 1 || udp.checksum.status == 1"
		cluster = "ip.addr == 10.0.0.0/8 || ipv6.addr == fd00::/8"
		public  = "ip.addr == 20.50.1.0/24 || ipv6.addr == 2001:db8:50:1::/64"
	)
	all := d.Packets.Forwarded + d.RST.Generated/2
	for _, file := range []string{"inside.pcap", "outside.pcap"} {
		assert.Zero(t, count(file, bad), file)
		assert.Equal(t, all, count(file, good), file)
	}
	assert.Zero(t, count("outside.pcap", cluster))
	assert.Equal(t, all, count("outside.pcap", public))
	assert.Zero(t, count("inside.pcap", public))
	assert.Equal(t, all, count("inside.pcap", cluster))
}

// A capture from anywhere may hold anything. Every IP packet of it reaches the
// cluster, which says what it thinks of it.
func TestForeignCapture(t *testing.T) {
	const pod, dns = "192.168.1.7:40000", "198.51.100.53:53"
	badHeader := udp4(t, pod, "198.51.100.54:53")
	badHeader[10] ^= 1
	badPayload := udp4(t, pod, "198.51.100.55:53")
	badPayload[len(badPayload)-1] ^= 1
	noChecksum := udp4(t, pod, "198.51.100.56:53")
	noChecksum[26], noChecksum[27] = 0, 0
	fragment := udp4(t, pod, "198.51.100.57:53")
	wire.IPv4(fragment).SetFragment(0, 80)
	wire.IPv4(fragment).ComputeChecksum()
	short := udp4(t, pod, "198.51.100.58:53")[:30]
	badSYN := tcp4(t, pod, "203.0.113.2:80", "S", 7)
	badSYN[36] ^= 1
	file := filepath.Join(t.TempDir(), "foreign.pcapng")
	packets := [][]byte{
		udp4(t, pod, dns), udp4(t, dns, pod), // an ordinary conversation
		noChecksum,
		tcp4(t, pod, "203.0.113.1:80", "A", 7),        // began before the capture did
		udp4(t, "198.51.100.99:5000", "10.244.9.9:1"), // to a pod: not translated
		udp4(t, pod, "10.224.9.9:514"),                // into the virtual network
		udp4(t, "10.224.9.9:514", pod),
		ping4(t, "192.168.1.7", "203.0.113.1"),
		ping4(t, "203.0.113.1", "192.168.1.7"),
		badHeader, badPayload, badSYN, fragment, short,
		{0x45}, // hardly a packet
	}
	links := make([]layers.LinkType, len(packets))
	for i := range links {
		links[i] = layers.LinkTypeRaw
	}
	require.NoError(t, os.WriteFile(file, pkttest.Pcapng(links, packets...), 0o600))
	dir := t.TempDir()
	d := egressJSON(t, "-pcap", file, "-out", dir)

	assert.Equal(t, len(packets), d.Packets.Outbound+d.Packets.Inbound)
	assert.Equal(t, d.Packets.Outbound+d.Packets.Inbound, d.Packets.Forwarded+d.Packets.Bypassed+d.Packets.Dropped)
	assert.Equal(t, 6, d.Packets.Forwarded, "a wrong UDP checksum is the receiver's business")
	assert.Equal(t, 1, d.Packets.Bypassed)
	assert.Equal(t, map[string]int{"no_flow": 1, "unsupported_proto": 2, "ip_csum": 1, "l4_csum": 1, "fragment": 1, "bad_len": 1, "short": 1}, d.Drops)
	assert.Len(t, readPackets(t, filepath.Join(dir, "inside.pcap")), d.Packets.Outbound+2)
	node := netip.MustParsePrefix("10.0.0.0/8")
	for _, b := range readPackets(t, filepath.Join(dir, "outside.pcap")) {
		var p wire.Packet
		wire.Parse(b, &p)
		src, dst := shapeOf(b, &p, false).endpoints(b)
		assert.False(t, node.Contains(src.Addr()) || node.Contains(dst.Addr()), "%v > %v", src, dst)
	}

	status, stdout, _ := egress(t, "-pcap", file)
	assert.Zero(t, status)
	assert.Contains(t, stdout, "8 packets dropped, no SNAT port missing")
	assert.Contains(t, stdout, "checksum offload")
}

// With -icmp and -fragments pings and datagrams in pieces go out and come back, in every
// copy, even if pieces overtake each other; without, the cluster drops them.
func TestEchoAndFragments(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for name, h := range map[string]struct{ pod, server string }{"v4": {"192.168.1.7", "198.51.100.53"}, "v6": {"fd00:1::7", "2001:db8:5::53"}} {
		t.Run(name, func(t *testing.T) {
			port := func(a, p string) string { return net.JoinHostPort(a, p) }
			asks := pkttest.Fragments(pkttest.UDP(port(h.pod, "40000"), port(h.server, "53"), long), 1400, 7)
			answers := pkttest.Fragments(pkttest.UDP(port(h.server, "53"), port(h.pod, "40000"), long), 1400, 9)
			answers[0], answers[1] = answers[1], answers[0]
			packets := [][]byte{
				pkttest.ICMPEcho(h.pod, h.server, 77, 1), pkttest.ICMPEchoReply(h.server, h.pod, 77, 1),
				pkttest.ICMPEcho(h.pod, h.server, 77, 2), pkttest.ICMPEchoReply(h.server, h.pod, 77, 2),
			}
			packets = append(append(packets, asks...), answers...)
			at := make([]time.Duration, len(packets))
			for i := range at {
				at[i] = time.Duration(i) * 10 * time.Millisecond
			}
			file := pcapAt(t, at, packets...)
			dir := t.TempDir()
			d := egressJSON(t, "-pcap", file, "-copies", "20", "-icmp", "-fragments", "-out", dir)
			assert.Equal(t, 20*len(packets), d.Packets.Forwarded)
			assert.Equal(t, 20*len(packets), d.Packets.Outbound+d.Packets.Inbound)
			assert.Empty(t, d.Drops)
			for _, side := range []string{"inside.pcap", "outside.pcap"} {
				assert.Len(t, readPackets(t, filepath.Join(dir, side)), 20*len(packets), side)
			}
			d = egressJSON(t, "-pcap", file, "-icmp")
			assert.Equal(t, map[string]int{"fragment": len(asks) + len(answers)}, d.Drops)
			_, stdout, _ := egress(t, "-pcap", file, "-fragments")
			assert.Contains(t, stdout, "dropped")
		})
	}
}

// pcapAt returns a file name of a capture with packets at given times.
func pcapAt(t *testing.T, at []time.Duration, packets ...[]byte) string {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriterNanos(&file)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeRaw))
	for i, p := range packets {
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{
			Timestamp: time.Unix(1_700_000_000, 0).Add(at[i]), CaptureLength: len(p), Length: len(p)}, p))
	}
	name := filepath.Join(t.TempDir(), "timed.pcap")
	require.NoError(t, os.WriteFile(name, file.Bytes(), 0o600))
	return name
}

// A connection that is silent for longer than the idle timeout is reset, on both
// sides at that moment, and nobody goes on talking.
func TestIdleConnectionIsCutOff(t *testing.T) {
	ms := time.Millisecond
	file := pcapAt(t, []time.Duration{0, ms, 2 * ms, 10 * time.Minute, 10*time.Minute + ms},
		tcp4(t, client, server, "S", 100), tcp4(t, server, client, "SA", 500, 101), tcp4(t, client, server, "A", 101, 501),
		tcp4(t, client, server, "A", 101, 501), tcp4(t, server, client, "A", 501, 101))
	dir := t.TempDir()
	d := egressJSON(t, "-pcap", file, "-idle", "4m", "-out", dir)
	assert.Equal(t, 3, d.Packets.Forwarded)
	assert.Zero(t, d.Packets.Dropped)
	assert.Equal(t, 2, d.RST.Generated)
	for _, side := range []string{"inside.pcap", "outside.pcap"} {
		packets := readPackets(t, filepath.Join(dir, side))
		require.Len(t, packets, 4, side)
		assert.True(t, isPlainReset(t, packets[3]), side)
	}
	_, stdout, _ := egress(t, "-pcap", file, "-idle", "4m")
	assert.Regexp(t, `cut off +1 +conversations`, stdout)

	patient := egressJSON(t, "-pcap", file)
	assert.Equal(t, 5, patient.Packets.Forwarded, "30 minutes are enough")
}

// A UDP flow that expires in the middle of a conversation begins anew, perhaps
// at another port; replies go to that one.
func TestExpiredDatagramFlowBeginsAnew(t *testing.T) {
	const from, to = "192.0.2.1:4000", "203.0.113.1:9000"
	s := time.Second
	file := pcapAt(t, []time.Duration{0, s, 300 * s, 600 * s, 601 * s},
		udp4(t, from, to), udp4(t, to, from), udp4(t, to, from), udp4(t, from, to), udp4(t, to, from))
	d := egressJSON(t, "-pcap", file, "-idle", "4m")
	assert.Equal(t, map[string]int{"no_flow": 1}, d.Drops, "the late reply")
	assert.Equal(t, 4, d.Packets.Forwarded)
	assert.Equal(t, 2, d.Flows.Created)
}

func TestSameSeedSameBytes(t *testing.T) {
	files := func(threads int, args ...string) (inside, outside []byte, digest string) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		dir := t.TempDir()
		// So many pods that copies overlap.
		d := egressJSON(t, append(args, "-out", dir, "-copies", "6", "-nodes", "20", "-pods-per-node", "250")...)
		inside, err := os.ReadFile(filepath.Join(dir, "inside.pcap"))
		require.NoError(t, err)
		outside, err = os.ReadFile(filepath.Join(dir, "outside.pcap"))
		require.NoError(t, err)
		return inside, outside, d.Digest
	}
	insideOne, outsideOne, one := files(1)
	insideTwo, outsideTwo, two := files(2)
	assert.Len(t, one, 16)
	assert.Equal(t, one, two)
	assert.True(t, bytes.Equal(insideOne, insideTwo))
	assert.True(t, bytes.Equal(outsideOne, outsideTwo))
	insideOther, _, other := files(2, "-seed", "2")
	assert.NotEqual(t, one, other)
	assert.False(t, bytes.Equal(insideOne, insideOther), "the seed matters")
}

func TestMistakesAreExplained(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, content, 0o600))
		return name
	}
	plain := file("plain", []byte("x"))
	for name, c := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"ports no multiple of 8":  {[]string{"-ports", "12"}, 2, "-ports 12: must be a multiple of 8"},
		"ports negative":          {[]string{"-ports", "-8"}, 2, "-ports -8: must be 0 to 64,000"},
		"ports too many":          {[]string{"-ports", "64008"}, 2, "-ports 64008: must be 0 to 64,000"},
		"ports no number":         {[]string{"-ports", "many"}, 2, `invalid value "many" for flag -ports`},
		"ips 0":                   {[]string{"-ips", "0"}, 2, "-ips 0: must be 1 to 100"},
		"ips 101":                 {[]string{"-ips", "101"}, 2, "-ips 101: must be 1 to 100"},
		"nodes 0":                 {[]string{"-nodes", "0"}, 2, "-nodes 0: must be 1 to 256"},
		"more nodes than blocks":  {[]string{"-nodes", "257"}, 2, "-nodes 257: must be 1 to 256, the number of /24 blocks in the pod CIDR 10.244.0.0/16"},
		"idle too short":          {[]string{"-idle", "3m"}, 2, "-idle 3m: must be whole minutes, 4m to 120m"},
		"idle too long":           {[]string{"-idle", "121m"}, 2, "-idle 121m: must be whole minutes, 4m to 120m"},
		"idle no whole minutes":   {[]string{"-idle", "5m30s"}, 2, "-idle 5m30s: must be whole minutes, 4m to 120m"},
		"pods 251":                {[]string{"-pods-per-node", "251"}, 2, "-pods-per-node 251: must be 1 to 250"},
		"pods 0":                  {[]string{"-pods-per-node", "0"}, 2, "-pods-per-node 0: must be 1 to 250"},
		"copies negative":         {[]string{"-copies", "-1"}, 2, "-copies -1: must be 0 to 1,000,000,000"},
		"idle no duration":        {[]string{"-idle", "soon"}, 2, `invalid value "soon" for flag -idle`},
		"more ports than IPs":     {[]string{"-nodes", "100", "-ports", "4000", "-ips", "6"}, 2, "-ports 4000: 100 nodes and 1 for upgrades need 404,000 ports, -ips 6 has 384,000: use -ports 3800 or fewer, or -ips 7 or more"},
		"more ports than any IPs": {[]string{"-nodes", "200", "-ports", "64000"}, 2, "use -ports 312 or fewer; not even -ips 100 suffices"},
		"unknown flag":            {[]string{"-speed", "9"}, 2, "flag provided but not defined: -speed"},
		"argument":                {[]string{"capture.pcap"}, 2, `unexpected argument "capture.pcap"`},
		"empty file name":         {[]string{"-pcap", ""}, 2, `-pcap "": must not be empty`},
		"empty directory name":    {[]string{"-out", ""}, 2, `-out "": must not be empty`},
		"too much virtual time":   {[]string{"-copies", "1000000000"}, 1, "-copies 1000000000: would take"},
		"no such file":            {[]string{"-pcap", filepath.Join(dir, "none.pcap")}, 1, "none.pcap: no such file or directory"},
		"a directory as file":     {[]string{"-pcap", dir}, 1, ": is a directory"},
		"empty file":              {[]string{"-pcap", file("empty", nil)}, 1, "empty: the file is empty"},
		"garbage":                 {[]string{"-pcap", file("garbage", bytes.Repeat([]byte("noise"), 99))}, 1, "garbage: not a pcap or pcapng file"},
		"truncated at once":       {[]string{"-pcap", file("cut", testdata.Conversations[:50])}, 1, "cut: truncated: frame 1"},
		"out is a file":           {[]string{"-out", plain}, 1, "-out " + plain + ": "},
		"out below a file":        {[]string{"-out", filepath.Join(plain, "sub")}, 1, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := egress(t, c.args...)
			assert.Equal(t, c.status, status)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, c.want)
			assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			assert.True(t, strings.HasPrefix(stderr, "egress: "), stderr)
		})
	}
}

// Headers alone are enough to plan with: a capture that a snap length has cut has the
// conversations of the whole one, and is told to be cut.
func TestCutCaptureHasTheSameConversations(t *testing.T) {
	whole, err := capture.Read(testdata.Conversations)
	require.NoError(t, err)
	var packets [][]byte
	for _, p := range whole.Packets {
		packets = append(packets, p.Data)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "cut.pcap")
	require.NoError(t, os.WriteFile(file, pkttest.PcapCut(layers.LinkTypeRaw, 96, packets...), 0o600))
	entire := filepath.Join(dir, "whole.pcap")
	require.NoError(t, os.WriteFile(entire, pkttest.Pcap(layers.LinkTypeRaw, packets...), 0o600))
	want, got := egressJSON(t, "-pcap", entire), egressJSON(t, "-pcap", file, "-out", dir)
	assert.Equal(t, want.Packets, got.Packets)
	assert.Equal(t, want.Flows, got.Flows)
	assert.Greater(t, got.Frames.Cut, 100)
	assert.Empty(t, got.Drops)
	_, stdout, _ := egress(t, "-pcap", file)
	assert.Regexp(t, `Cut +[\d,]+ frames of which the capture kept a part only`, stdout)
	written, err := os.ReadFile(filepath.Join(dir, "outside.pcap"))
	require.NoError(t, err)
	outside, err := capture.Read(written)
	require.NoError(t, err)
	assert.Greater(t, outside.Cut, 100)
	for _, p := range outside.Packets {
		assert.LessOrEqual(t, len(p.Data), 96)
	}
}

// A capture made in a pod has checksums that its host has left to others.
func TestCaptureOfAPod(t *testing.T) {
	const pod, server = "10.244.0.9:40000", "203.0.113.9:443"
	file := filepath.Join(t.TempDir(), "pod.pcap")
	require.NoError(t, os.WriteFile(file, pkttest.Pcap(layers.LinkTypeRaw, pkttest.Offload(tcp4(t, pod, server, "S", 7)), tcp4(t, server, pod, "SA", 9, 8)), 0o600))
	d := egressJSON(t, "-pcap", file)
	assert.Equal(t, 1, d.SNAT.Connections.Successful)
	assert.Equal(t, 1, d.Frames.Repaired)
	assert.Empty(t, d.Drops)
	_, stdout, _ := egress(t, "-pcap", file)
	assert.Regexp(t, `Repaired +1 packet from 1 host had no right checksums`, stdout)
}

// A run in which nothing could be translated fails and says why, below its report.
func TestNothingTranslated(t *testing.T) {
	const pod, server = "10.244.0.9:40000", "203.0.113.9:443"
	syn := tcp4(t, pod, server, "S", 7)
	for name, c := range map[string]struct {
		packets [][]byte
		cut     int
		why     string
	}{
		"wrong checksums": {[][]byte{pkttest.Offload(syn)}, 1500, "most packets were dropped as l4_csum, 1 of 1: "},
		"cut too short":   {[][]byte{syn, syn}, 30, "most packets were dropped as bad_len, 2 of 2: "},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nothing.pcap")
			require.NoError(t, os.WriteFile(file, pkttest.PcapCut(layers.LinkTypeRaw, c.cut, c.packets...), 0o600))
			status, stdout, stderr := egress(t, "-pcap", file, "-checksums", "keep")
			assert.Equal(t, command.Failure, status)
			assert.Contains(t, stdout, "dropped")
			assert.Contains(t, stderr, "egress: nothing was translated: "+c.why)
		})
	}
}

// Of a capture that is cut off all sound frames are played, and the damage is told.
func TestCaptureThatIsCutOff(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cut.pcap")
	require.NoError(t, os.WriteFile(file, testdata.Conversations[:len(testdata.Conversations)-1], 0o600))
	status, stdout, stderr := egress(t, "-pcap", file)
	assert.Zero(t, status)
	assert.Regexp(t, `^egress: warning: -pcap .*cut.pcap: truncated: frame \d+ has \d+ of its \d+ bytes\n$`, stderr)
	assert.Regexp(t, `Damage +the capture is not sound`, stdout)
	assert.Regexp(t, `Skipped +1 frame without an IP packet: damaged`, stdout)
	whole, err := capture.Read(testdata.Conversations)
	require.NoError(t, err)
	_, stdout, _ = egress(t, "-pcap", file, "-json")
	var d document
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	assert.Equal(t, len(whole.Packets)-1, d.Packets.Outbound+d.Packets.Inbound)
	assert.Contains(t, d.Frames.Damage, "truncated")
}

func TestAllMistakesAreExplainedAtOnce(t *testing.T) {
	_, _, stderr := egress(t, "-nodes", "0", "-ips", "0", "-ports", "12", "-idle", "3m")
	assert.Equal(t, 4, strings.Count(stderr, "\n"), stderr)
}

func TestUnreadableFileAndUnwritableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read and write everything")
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.pcap")
	require.NoError(t, os.WriteFile(secret, testdata.Conversations, 0))
	status, _, stderr := egress(t, "-pcap", secret)
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "permission denied")
	require.NoError(t, os.Chmod(dir, 0o500))
	status, _, stderr = egress(t, "-out", filepath.Join(dir, "out"))
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "permission denied")
}

func TestHelpGoesToStdout(t *testing.T) {
	status, stdout, stderr := egress(t, "-help")
	assert.Zero(t, status)
	assert.Empty(t, stderr)
	for _, name := range []string{"-pcap", "-nodes", "-pods-per-node", "-ips", "-ports", "-idle", "-copies", "-seed", "-out", "-json", "-fail-on-refusal"} {
		assert.Contains(t, stdout, name)
	}
}

// Whatever stops a run, nothing half-written stays.
func TestFailedRunsLeaveNothingBehind(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 130, Command{}.Run(ctx, []string{"-out", dir}, &stdout, &stderr))
	assert.Empty(t, stdout.String())
	assert.Contains(t, stderr.String(), "interrupted")
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Empty(t, left)

	// An existing directory stays, and so does what was in it.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "outside.pcap"), 0o700))
	status, _, complaint := egress(t, "-out", dir)
	assert.Equal(t, 1, status)
	assert.Contains(t, complaint, "outside.pcap is a directory")
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, "outside.pcap", left[0].Name())
}

// A context that ends after it has been asked a number of times.
type patience struct {
	context.Context
	left int
}

func (p *patience) Err() error {
	if p.left--; p.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestInterruptedRunsTellWhatIsKnown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	var stdout, stderr bytes.Buffer
	status := Command{}.Run(&patience{t.Context(), 5}, []string{"-out", dir}, &stdout, &stderr)
	assert.Equal(t, 130, status)
	assert.Regexp(t, `^egress: interrupted after \d+ % of the packets\n$`, stderr.String())
	assert.Contains(t, stdout.String(), "Interrupted  after ")
	assert.Contains(t, stdout.String(), "WHAT THIS RUN SHOWS")
	assert.NoDirExists(t, dir)

	stdout.Reset()
	assert.Equal(t, 130, Command{}.Run(&patience{t.Context(), 5}, []string{"-json"}, &stdout, &stderr))
	var d document
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &d))
	assert.False(t, d.Complete)
	assert.Positive(t, d.Packets.Forwarded)
}

func TestRefusalsCanFail(t *testing.T) {
	few := []string{"-ports", "8", "-copies", "3"}
	status, _, _ := egress(t, few...)
	assert.Zero(t, status)
	status, stdout, stderr := egress(t, append(few, "-fail-on-refusal")...)
	assert.Equal(t, 3, status)
	assert.Contains(t, stdout, "failed for want of a SNAT port")
	assert.Regexp(t, `^egress: refused connections: \d+\n$`, stderr)
	status, _, _ = egress(t, "-fail-on-refusal")
	assert.Zero(t, status, "nothing was refused")
}

func TestReportFits80Columns(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Setenv("COLUMNS", "")
	for _, args := range [][]string{{}, {"-ports", "8", "-nodes", "20", "-ips", "20"}} {
		var stdout, stderr bytes.Buffer
		require.Zero(t, Command{}.Run(t.Context(), args, &stdout, &stderr))
		for line := range strings.Lines(stdout.String()) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
		}
	}
}

// Ports that closed connections hold are what refuses the next connection to the same
// host. The report says so, and does not advise an idle timeout that cannot help.
func TestHeldPortsAreTheCause(t *testing.T) {
	var at []time.Duration
	var packets [][]byte
	for i := range 80 { // one after the other
		client, start := fmt.Sprintf("192.168.1.7:%d", 40000+i), time.Duration(i)*time.Second
		for k, p := range [][]byte{
			tcp4(t, client, server, "S", 100), tcp4(t, server, client, "SA", 500, 101), tcp4(t, client, server, "A", 101, 501),
			tcp4(t, client, server, "FA", 101, 501), tcp4(t, server, client, "FA", 501, 102), tcp4(t, client, server, "A", 102, 502),
		} {
			at, packets = append(at, start+time.Duration(k)*time.Millisecond), append(packets, p)
		}
	}
	args := []string{"-pcap", pcapAt(t, at, packets...), "-nodes", "1", "-ports", "64"}
	d := egressJSON(t, args...)
	assert.Equal(t, 64, d.SNAT.Connections.Successful)
	assert.Equal(t, 16, d.SNAT.Connections.Failed)
	assert.Equal(t, 64, d.SNAT.Frontends[0].PeakPorts)
	assert.Equal(t, 64, d.SNAT.Frontends[0].UsedPorts)
	assert.Equal(t, 64, d.SNAT.Frontends[0].HeldFINPorts)
	assert.Zero(t, d.SNAT.Frontends[0].ActivePorts)
	assert.Equal(t, portDocument{64, 64, 64, usesDocument{HeldFINPorts: 64}}, d.Nodes[0].TCP)
	advice := ""
	for _, f := range d.Findings {
		advice += f.Code + ": " + f.Text + "\n"
	}
	assert.Contains(t, advice, "held: Of the 64 TCP ports that were in use then, 64 had no flow")
	assert.NotContains(t, advice, "-idle")
	assert.NotContains(t, advice, "shorter")
}

// Where flows that are idle are the cause, a shorter timeout is the advice, but none
// below the shortest.
func TestIdleFlowsAreTheCause(t *testing.T) {
	for idle, want := range map[string]bool{"30m": true, "4m": false} {
		_, stdout, _ := egress(t, "-nodes", "1", "-pods-per-node", "30", "-ports", "64", "-copies", "40", "-idle", idle)
		require.Contains(t, stdout, "failed for want of a SNAT port")
		assert.Equal(t, want, strings.Contains(stdout, "a shorter -idle"), idle)
		assert.NotContains(t, stdout, "No idle timeout changes that")
	}
}

// What the text shows is in the JSON too.
func TestJSONIsWhole(t *testing.T) {
	d := egressJSON(t, "-nodes", "4", "-pods-per-node", "3", "-ports", "16", "-idle", "5m", "-seed", "7")
	assert.Equal(t, 4, d.Settings.Nodes)
	assert.Equal(t, 3, d.Settings.PodsPerNode)
	assert.Equal(t, 16, d.Settings.PortsPerNode)
	assert.Equal(t, 300.0, d.Settings.IdleSeconds)
	assert.EqualValues(t, 7, d.Settings.Seed)
	assert.Positive(t, d.Settings.Copies)
	assert.True(t, d.Complete)
	assert.Equal(t, len(builtinRecording(t).conversations), d.Conversations.Recorded)
	require.Len(t, d.Nodes, 4)
	require.Len(t, d.Pods, 12)
	flows, failed, peak := 0, 0, 0
	for _, n := range d.Nodes {
		flows += n.Flows
		failed += n.Failed
		for _, used := range n.UsedHistory {
			peak = max(peak, used)
		}
		assert.Len(t, n.UsedHistory, historyLength)
		assert.Equal(t, 16, n.TCP.AllocatedPorts)
		assert.LessOrEqual(t, n.UDP.PeakPorts, 16)
	}
	assert.Equal(t, d.Flows.Created, flows)
	assert.Equal(t, d.SNAT.Connections.Failed, failed)
	assert.Positive(t, peak)
	pods, destinations := 0, 0
	for _, p := range d.Pods {
		pods += p.Conversations
		assert.Len(t, p.IPs, 2)
	}
	for _, x := range d.Destinations {
		destinations += x.Conversations
	}
	assert.Equal(t, d.Conversations.Begun, pods)
	assert.Equal(t, d.Conversations.Begun, destinations)
	codes := []string{}
	for _, f := range d.Findings {
		codes = append(codes, f.Code)
		assert.NotEmpty(t, f.Text)
	}
	assert.Contains(t, codes, "exhausted")
	assert.Contains(t, codes, "dns")
}

func TestReportThatCannotBePrintedIsAnError(t *testing.T) {
	var stderr bytes.Buffer
	assert.Equal(t, 1, Command{}.Run(t.Context(), []string{"-copies", "1"}, brokenPipe{}, &stderr))
	assert.Contains(t, stderr.String(), "report: broken pipe")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
