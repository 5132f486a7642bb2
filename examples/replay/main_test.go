package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
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
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// Hosts of the tests: a and b are inside.
const (
	a, b     = "10.0.0.4", "10.0.0.5"
	a6       = "fd00::4"
	remote   = "203.0.113.80"
	remote6  = "2001:db8:5::7"
	front    = "198.51.100.7"
	front6   = "2001:db8::7"
	insides  = "10.0.0.0/8,fd00::/8"
	frontIPs = front + "," + front6
)

// conversations is the built-in capture of examples/egress: real stacks.
var conversations = filepath.Join("..", "egress", "testdata", "conversations.pcap")

// invoke runs the command.
func invoke(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("COLUMNS", "500") // sentences in one piece
	var out, complaints bytes.Buffer
	status = run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// replayJSON replays a capture with the hosts of the tests. It must succeed.
func replayJSON(t testing.TB, in string, args ...string) document {
	t.Helper()
	return result(t, append([]string{"-in", in, "-inside", insides, "-frontend", frontIPs}, args...)...)
}

// result runs the command with -json; it must succeed, unless it translates nothing,
// and its numbers add up.
func result(t testing.TB, args ...string) document {
	t.Helper()
	status, stdout, stderr := invoke(t, append(args, "-json")...)
	d := parse(t, stdout)
	if d.Verdicts.Forward == 0 {
		require.Equal(t, 1, status)
		assert.Regexp(t, `^(replay: warning: .*\n)?replay: nothing was translated: .+\n$`, stderr)
		return d
	}
	require.Zero(t, status, stderr)
	if !strings.HasPrefix(stderr, "replay: warning: ") {
		assert.Empty(t, stderr)
	}
	return d
}

func parse(t testing.TB, stdout string) (d document) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d))
	drops, skipped := 0, 0
	for _, n := range d.Reasons {
		drops += n
	}
	for _, n := range d.Frames.Skipped {
		skipped += n
	}
	require.Equal(t, d.Packets, d.Verdicts.Forward+d.Verdicts.Bypass+d.Verdicts.Drop)
	require.Equal(t, d.Verdicts.Drop, drops)
	require.Equal(t, d.Frames.Total, d.Packets+skipped)
	require.Equal(t, d.Roundtrip.Compared, d.Roundtrip.Identical+d.Roundtrip.Canonical+d.Roundtrip.Different)
	require.Zero(t, d.Roundtrip.Different)
	return d
}

// timed is a packet and when it comes, in seconds.
type timed struct {
	at     float64
	packet []byte
}

// captureAt writes a capture and returns its name.
func captureAt(t testing.TB, packets ...timed) string {
	t.Helper()
	f, err := capture.Create(t.Context(), filepath.Join(t.TempDir(), "in.pcap"))
	require.NoError(t, err)
	for _, p := range packets {
		require.NoError(t, f.Write(time.Unix(1_700_000_000, 0).Add(time.Duration(p.at*1e9)), p.packet))
	}
	require.NoError(t, f.Finish())
	require.NoError(t, f.Rename())
	return f.Name()
}

// captureOf writes a capture with a packet every millisecond.
func captureOf(t testing.TB, packets ...[]byte) string {
	t.Helper()
	var all []timed
	for i, p := range packets {
		all = append(all, timed{float64(i) / 1000, p})
	}
	return captureAt(t, all...)
}

// packetsOf reads a capture.
func packetsOf(t testing.TB, name string) *capture.Capture {
	t.Helper()
	file, err := os.ReadFile(name)
	require.NoError(t, err)
	c, err := capture.Read(file)
	require.NoError(t, err)
	return c
}

// handshake opens a TCP connection, as the capture sees it.
func handshake(from, to string) [][]byte {
	return [][]byte{
		pkttest.TCP(from, to, pkttest.TCPFlags("S"), pkttest.Seq(100)),
		pkttest.TCP(to, from, pkttest.TCPFlags("SA"), pkttest.Seq(500), pkttest.Ack(101)),
		pkttest.TCP(from, to, pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501)),
	}
}

// Conversations of real stacks, both families, pass through the translator and
// come back byte by byte.
func TestRealConversationsComeBackIdentical(t *testing.T) {
	out := filepath.Join(t.TempDir(), "outside.pcap")
	d := result(t, "-in", conversations, "-inside", "192.0.2.0/24,2001:db8:c::/64", "-frontend", frontIPs, "-out", out)
	in := packetsOf(t, conversations)
	assert.Equal(t, len(in.Packets), d.Packets)
	assert.Equal(t, d.Packets, d.Verdicts.Forward)
	assert.Equal(t, d.Packets, d.Roundtrip.Identical)
	assert.Greater(t, d.Flows, 60)
	assert.Empty(t, d.Reasons)

	outside := packetsOf(t, out)
	require.Len(t, outside.Packets, len(in.Packets))
	assert.True(t, in.Begin.Equal(outside.Begin))
	for i, p := range outside.Packets {
		var parsed wire.Packet
		require.Equal(t, wire.OK, wire.Parse(p.Data, &parsed))
		require.True(t, wire.VerifyL4(&parsed), "checksum of packet %d", i)
		f := locate(p.Data)
		src, dst := f.endpoints(p.Data)
		frontends := []netip.Addr{netip.MustParseAddr(front), netip.MustParseAddr(front6)}
		require.True(t, slices.Contains(frontends, src.Addr()) || slices.Contains(frontends, dst.Addr()), "%v > %v", src, dst)
		require.Equal(t, in.Packets[i].At, p.At)
		require.Len(t, p.Data, len(in.Packets[i].Data))
	}
}

func TestJSONHasItsFields(t *testing.T) {
	in := captureOf(t, append(handshake(a+":4000", remote+":80"), []byte{0x45})...)
	_, stdout, _ := invoke(t, "-in", in, "-inside", insides, "-frontend", frontIPs, "-json")
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	assert.Equal(t, map[string]any{
		"complete":  true,
		"digest":    "e3c6ba02882a1d25",
		"packets":   4.0,
		"verdicts":  map[string]any{"forward": 3.0, "bypass": 0.0, "drop": 1.0},
		"reasons":   map[string]any{"short": 1.0},
		"flows":     1.0,
		"roundtrip": map[string]any{"compared": 3.0, "identical": 3.0, "canonical": 0.0, "different": 0.0},
		"frames":    map[string]any{"total": 4.0, "cut": 0.0, "repaired": 0.0, "untimed": 0.0, "skipped": map[string]any{}, "damage": ""},
		"rst":       map[string]any{"generated": 0.0},
		"icmp":      map[string]any{"generated": 0.0},
	}, got)
}

func TestTextReportSaysWhy(t *testing.T) {
	in := captureOf(t, append(handshake(a+":4000", remote+":80"), []byte{0x45}, pkttest.ICMPEcho(a, remote, 1, 1))...)
	status, stdout, stderr := invoke(t, "-in", in, "-inside", insides, "-frontend", frontIPs)
	assert.Zero(t, status)
	assert.Empty(t, stderr)
	for _, line := range []string{`through azure-lb, inside 10.0.0.0/8,fd00::/8, frontends 198.51.100.7,2001:db8::7`,
		`in the capture +5`, `forward +3`, `drop +2`, `short +1 +The buffer is shorter`, `unsupported_proto +1 +`, `flows +1`, `identical +3`, `different +0`} {
		assert.Regexp(t, line, stdout)
	}
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

func TestInterruptedReplayTellsWhatIsKnown(t *testing.T) {
	var packets [][]byte
	for i := range 6000 {
		packets = append(packets, pkttest.UDP(fmt.Sprintf("%s:%d", a, 1024+i), remote+":53", "query"))
	}
	in, out := captureOf(t, packets...), filepath.Join(t.TempDir(), "out.pcap")
	ctx := &patience{t.Context(), 0}
	for ; ctx.left < 1000; ctx.left++ { // until it is patient enough to begin, and not to end
		var stdout, stderr bytes.Buffer
		left := ctx.left
		status := run(ctx, []string{"-in", in, "-inside", insides, "-frontend", frontIPs, "-out", out}, &stdout, &stderr)
		ctx.left = left
		require.Equal(t, 130, status)
		assert.NoFileExists(t, out)
		if stdout.Len() > 0 {
			assert.Contains(t, stdout.String(), "Interrupted after 4,096 of 6,000 packets.\n")
			assert.Equal(t, "replay: interrupted\n", stderr.String())
			return
		}
	}
	t.Fatal("never began")
}

func TestBadCommandLines(t *testing.T) {
	good := captureOf(t, handshake(a+":4000", remote+":80")...)
	dir := t.TempDir()
	use := func(more ...string) []string {
		return append([]string{"-in", good, "-inside", insides, "-frontend", frontIPs}, more...)
	}
	for name, c := range map[string]struct {
		args   []string
		status int
		want   []string
	}{
		"nothing":               {nil, 2, []string{`-in "": must name`, `-inside "": must have`, `-frontend "": must have`}},
		"argument":              {use("x.pcap"), 2, []string{`unexpected argument "x.pcap"`}},
		"flag":                  {use("-x"), 2, []string{"-x"}},
		"no CIDR":               {use("-inside", "10.0.0.0"), 2, []string{`-inside: "10.0.0.0" must be a CIDR`}},
		"CIDR with host bits":   {use("-inside", "10.0.0.1/8"), 2, []string{`"10.0.0.1/8" has bits beyond the prefix length; 10.0.0.0/8 has not`}},
		"mapped CIDR":           {use("-inside", "::ffff:10.0.0.0/104"), 2, []string{"must be written as IPv4"}},
		"no address":            {use("-frontend", "x"), 2, []string{`-frontend: "x" must be an IP address`}},
		"zone":                  {use("-frontend", "fe80::1%eth0"), 2, []string{"must be an IP address"}},
		"loopback":              {use("-frontend", "127.0.0.1"), 2, []string{`"127.0.0.1" must be the address of a single host`}},
		"several at once":       {use("-frontend", front, "-frontend", "10.1.1.1", "-preset", "cisco", "-ports", "-8", "-idle", "-1s", "-out", ""), 2, []string{"-frontend 198.51.100.7: is given twice", "-frontend 10.1.1.1: lies within -inside", "-preset \"cisco\": must be one of\n", "  azure-lb          Azure Standard Load Balancer", "-ports -8: must not", "-idle -1s: must not", `-out "": must not be empty`}},
		"unknown checksums":     {use("-checksums", "none"), 2, []string{`"none" for flag -checksums: must be one of auto, repair, keep`}},
		"more ports than exist": {use("-ports", "64008"), 1, []string{"-preset azure-lb: preset: azure-lb: PortsPerInstance 64008: out of range: multiples of 8"}},
		"ports of nobody":       {use("-ports", "8", "-preset", "aws-natgw"), 1, []string{"-ports 8: preset aws-natgw preallocates none"}},
		"idle time too short":   {use("-idle", "1m"), 1, []string{"-preset azure-lb: preset: azure-lb: IdleTimeout 1m0s"}},
		"two for one address":   {use("-preset", "linux-masquerade", "-frontend", "198.51.100.8"), 1, []string{"-preset linux-masquerade: preset: linux-masquerade: Frontends has 2 addresses"}},
		"no file":               {[]string{"-in", filepath.Join(dir, "missing"), "-inside", insides, "-frontend", frontIPs}, 1, []string{"missing: no such file"}},
		"directory":             {[]string{"-in", dir, "-inside", insides, "-frontend", frontIPs}, 1, []string{"is a directory"}},
		"out is a directory":    {use("-out", dir), 1, []string{"-out " + dir, "is a directory"}},
		"out in no directory":   {use("-out", filepath.Join(dir, "x", "y")), 1, []string{"no such file"}},
		"out is in":             {use("-out", good), 1, []string{"is the file of -in"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := invoke(t, c.args...)
			assert.Equal(t, c.status, status)
			assert.Empty(t, stdout)
			for _, want := range c.want {
				assert.Contains(t, stderr, want)
			}
			for line := range strings.Lines(stderr) {
				assert.True(t, strings.HasPrefix(line, "replay: "), line)
			}
		})
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries, "left behind")
	assert.Len(t, packetsOf(t, good).Packets, 3, "the input is untouched")
}

func TestHelp(t *testing.T) {
	status, stdout, stderr := invoke(t, "-h")
	assert.Zero(t, status)
	assert.Empty(t, stderr)
	for _, flag := range []string{"-in", "-inside", "-frontend", "-preset", "-ports", "-idle", "-seed", "-tcp-reset", "-fragments", "-icmp", "-checksums", "-out", "-json"} {
		assert.Contains(t, stdout, "  "+flag)
	}
	for _, p := range preset.All() {
		assert.Contains(t, stdout, p.Name)
		assert.Contains(t, stdout, p.Summary)
	}
}

// A file that is no capture is refused and leaves nothing behind. Of a capture that
// is damaged the rest is replayed, and the damage told.
func TestBadCaptures(t *testing.T) {
	file, err := os.ReadFile(captureOf(t, handshake(a+":4000", remote+":80")...))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		file            []byte
		want            string
		packets, frames int // -1: refused
	}{
		"empty":           {nil, "the file is empty", -1, 0},
		"garbage":         {[]byte("GET / HTTP/1.1\r\n\r\n"), "not a pcap or pcapng file", -1, 0},
		"header only":     {file[:24], "", 0, 0},
		"truncated":       {file[:len(file)-1], "truncated: frame 3 has 39 of its 40 bytes", 2, 3},
		"cut in a header": {file[:30], "truncated: frame 1 ends after 6 bytes of its header", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := filepath.Join(dir, "in.pcap")
			require.NoError(t, os.WriteFile(in, c.file, 0o600))
			status, stdout, stderr := invoke(t, "-in", in, "-inside", insides, "-frontend", frontIPs, "-out", filepath.Join(dir, "out.pcap"), "-json")
			if c.packets < 0 {
				assert.Equal(t, 1, status)
				assert.Empty(t, stdout)
				assert.Equal(t, "replay: -in "+in+": "+c.want+"\n", stderr)
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				assert.Len(t, entries, 1, "left behind")
				return
			}
			assert.Equal(t, c.packets == 0, status == 1)
			if c.want != "" {
				assert.True(t, strings.HasPrefix(stderr, "replay: warning: -in "+in+": "+c.want+"\n"), stderr)
			}
			d := parse(t, stdout)
			assert.Equal(t, c.packets, d.Roundtrip.Identical)
			assert.Equal(t, c.frames, d.Frames.Total)
			assert.Equal(t, c.frames-c.packets, d.Frames.Skipped["damaged"])
			assert.Equal(t, c.want, d.Frames.Damage)
		})
	}
}

// Nothing of the capture is inside: that is reported, and what to do about it.
func TestWrongInside(t *testing.T) {
	in := captureOf(t, handshake(a+":4000", remote+":80")...)
	status, stdout, stderr := invoke(t, "-in", in, "-inside", "192.168.0.0/16", "-frontend", front, "-json")
	assert.Equal(t, 1, status)
	assert.Equal(t, map[string]int{"not_ours": 3}, parse(t, stdout).Reasons)
	assert.Equal(t, "replay: nothing was translated: -inside 192.168.0.0/16: no packet of the capture is from or to it; its busiest addresses, with their packets, are 10.0.0.4 (3) 203.0.113.80 (3)\n", stderr)
}

// A capture made on the host that sent its packets is as good as any other, and what
// was done to it is told. With -checksums keep it is what it is.
func TestOffloadedChecksums(t *testing.T) {
	var packets [][]byte
	for _, p := range append(handshake(a+":4000", remote+":80"), handshake("["+a6+"]:4000", "["+remote6+"]:80")...) {
		packets = append(packets, pkttest.Offload(p))
	}
	in := captureOf(t, packets...)
	d := replayJSON(t, in)
	assert.Equal(t, 6, d.Roundtrip.Identical)
	assert.Equal(t, 6, d.Frames.Repaired)
	_, stdout, _ := invoke(t, "-in", in, "-inside", insides, "-frontend", frontIPs)
	assert.Regexp(t, `repaired +6 +6 packets from 4 hosts had no right checksums`, stdout)
	d = replayJSON(t, in, "-checksums", "keep")
	assert.Equal(t, map[string]int{"l4_csum": 2, "no_flow": 4}, d.Reasons)
	assert.Zero(t, d.Frames.Repaired)

	damaged := captureOf(t, append(handshake(a+":4000", remote+":80"), pkttest.TCP(a+":4001", remote+":80", pkttest.TCPFlags("S"), pkttest.BadChecksum()))...)
	assert.Equal(t, map[string]int{"l4_csum": 1}, replayJSON(t, damaged).Reasons, "no offloading, but damage")
	assert.Equal(t, 4, replayJSON(t, damaged, "-checksums", "repair").Roundtrip.Identical)
}

// Packets that a snap length has cut are translated like whole ones, and written cut.
func TestCutCapture(t *testing.T) {
	whole := packetsOf(t, conversations)
	var packets [][]byte
	for _, p := range whole.Packets {
		packets = append(packets, p.Data)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
	args := []string{"-in", in, "-inside", "192.0.2.0/24,2001:db8:c::/64", "-frontend", frontIPs, "-out", out}
	run := func(snap int) (document, *capture.Capture) {
		require.NoError(t, os.WriteFile(in, pkttest.PcapCut(layers.LinkTypeRaw, snap, packets...), 0o600))
		return result(t, args...), packetsOf(t, out)
	}
	want, entire := run(2000)
	got, cut := run(96)
	assert.Equal(t, want.Roundtrip, got.Roundtrip)
	assert.Equal(t, want.Reasons, got.Reasons)
	assert.Greater(t, got.Frames.Cut, 100)
	assert.Zero(t, got.Frames.Repaired)
	assert.Greater(t, cut.Cut, 100)
	require.Len(t, cut.Packets, len(entire.Packets))
	for i, p := range cut.Packets {
		whole := len(entire.Packets[i].Data)
		assert.Len(t, p.Data, min(96, whole))
		assert.Equal(t, whole, len(p.Data)+p.Cut())
	}
	_, stdout, _ := invoke(t, args...)
	assert.Regexp(t, `cut +\d+ +The capture kept a part of them only`, stdout)
}

// A run in which nothing is translated fails, after its report, and says why.
func TestNothingTranslated(t *testing.T) {
	both := append(handshake(a+":4000", remote+":80"), handshake("["+a6+"]:4000", "["+remote6+"]:80")...)
	arp := filepath.Join(t.TempDir(), "arp.pcap")
	require.NoError(t, os.WriteFile(arp, pkttest.Pcap(layers.LinkTypeEthernet, append(make([]byte, 12), 8, 6, 0, 1), []byte{1}, append(make([]byte, 12), 8, 6, 0, 1)), 0o600))
	for name, c := range map[string]struct {
		in, frontend string
		status       int
		why          string
	}{
		"IPv6 for IPv4":  {captureOf(t, both[:3]...), front6, 1, "-frontend 2001:db8::7: the inside hosts are IPv4 and need addresses of that family, such as 198.51.100.7"},
		"IPv4 for IPv6":  {captureOf(t, both[3:]...), front, 1, "-frontend 198.51.100.7: the inside hosts are IPv6 and need addresses of that family, such as 2001:db8::7"},
		"one of two":     {captureOf(t, both...), front, 0, ""},
		"no frames":      {captureOf(t), front, 1, "the capture has no frames"},
		"no IP":          {arp, front, 1, `no frame of the capture has an IP packet; most are "ARP": 2 of 3`},
		"inside only":    {captureOf(t, handshake(a+":4000", b+":80")...), front, 1, "all packets are between inside hosts"},
		"late segments":  {captureOf(t, both[2], both[1], both[2]), front, 1, "most packets were dropped as no_flow, 3 of 3: The packet belongs to no flow and may not begin one."},
		"of others only": {captureOf(t, handshake("192.0.2.1:1", remote+":80")...), front, 1, "-inside 10.0.0.0/8,fd00::/8: no packet of the capture is from or to it; its busiest addresses, with their packets, are 192.0.2.1 (3) 203.0.113.80 (3)"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := invoke(t, "-in", c.in, "-inside", insides, "-frontend", c.frontend)
			assert.Equal(t, c.status, status)
			assert.Contains(t, stdout, "FRAMES")
			if c.why != "" {
				assert.Equal(t, "replay: nothing was translated: "+c.why+"\n", stderr)
			} else {
				assert.Empty(t, stderr)
			}
		})
	}
}

// Real conversations of both families come back byte by byte through every preset,
// as does a connection between two hosts and one outside, by its own ports.
func TestEveryPreset(t *testing.T) {
	in := packetsOf(t, conversations)
	for _, p := range preset.All() {
		t.Run(p.Name, func(t *testing.T) {
			args := []string{"-in", conversations, "-inside", "192.0.2.0/24,2001:db8:c::/64", "-frontend", frontIPs, "-seed", "7", "-preset", p.Name}
			d := result(t, args...)
			assert.Equal(t, len(in.Packets), d.Packets)
			assert.Equal(t, d.Packets, d.Verdicts.Forward+d.Verdicts.Drop)
			assert.Equal(t, d.Verdicts.Forward, d.Roundtrip.Identical)
			if p.Name != "rfc" && p.Name != "cgn" { // which limit what a subscriber may do
				assert.Equal(t, d.Packets, d.Verdicts.Forward, "%v", d.Reasons)
			}
			assert.Equal(t, d, result(t, args...), "the same seed, the same report")
		})
	}
}
