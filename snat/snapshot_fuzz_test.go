package snat_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Snapshots that a program has written before, or that somebody has forged.

var update = flag.Bool("update", false, "write golden files anew")

// stored is a small NAT that has something of much, and its configuration.
func stored(t testing.TB) (*snat.NAT, snat.Config) {
	c := oneVM(16)
	c.HashKey, c.Shards = 7, 2
	c.EnableTCPReset = true
	c.CountHolders = snat.CountHolders{On: true, Window: time.Minute}
	n, err := snat.New(c)
	require.NoError(t, err)
	at := flow.At(time.Second)
	n.Outbound(at, pkttest.UDP(socket(vmA, 5000), "198.51.100.7:53", "query"))
	n.Outbound(at, pkttest.TCP(socket(vmA, 5001), "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1)))
	n.Inbound(at, pkttest.TCP("198.51.100.7:443", firstOutside(n, 6), pkttest.TCPFlags("SA"), pkttest.Seq(7), pkttest.Ack(2)))
	n.Outbound(at, pkttest.TCP(socket(vmA, 5001), "198.51.100.7:443", pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(8)))
	n.Outbound(at, pkttest.TCP(socket(vmA, 5002), "198.51.100.8:443", pkttest.SYN, pkttest.Seq(1)))
	n.Outbound(at, pkttest.TCP(socket(vmA, 5002), "198.51.100.8:443", pkttest.TCPFlags("R"), pkttest.Seq(2)))
	return n, c
}

// firstOutside returns the outside socket of the first session of a protocol.
func firstOutside(n *snat.NAT, proto uint8) string {
	for s := range n.Sessions() {
		if s.Proto == proto {
			return s.Outside.String()
		}
	}
	return ""
}

// A snapshot of version 1 that was written once can be read for good, and is what is written today.
func TestSnapshotGolden(t *testing.T) {
	const file = "testdata/snapshot/version1"
	n, c := stored(t)
	defer n.Close()
	if *update {
		require.NoError(t, os.MkdirAll("testdata/snapshot", 0o755))
		require.NoError(t, os.WriteFile(file, snapshotOf(t, n), 0o644))
	}
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	old, err := snat.Restore(c, bytes.NewReader(b))
	require.NoError(t, err)
	defer old.Close()
	old.Check()
	var text []string
	for s := range old.Sessions() {
		text = append(text, s.Inside.String()+" to "+s.Remote.String()+" "+s.State)
	}
	require.ElementsMatch(t, []string{
		"10.0.0.4:5000 to 198.51.100.7:53 ", "10.0.0.4:5001 to 198.51.100.7:443 established", "10.0.0.4:5002 to 198.51.100.8:443 syn-sent",
	}, text)
	require.Equal(t, b, snapshotOf(t, n), "the format has changed: make a new version of it")
	now := flow.At(time.Hour)
	n.Advance(now, nil)
	old.Advance(now, nil)
	was, is := n.Stats(), old.Stats()
	is.Bytes = was.Bytes
	require.Equal(t, was, is)
}

// FuzzRestore changes bytes of a snapshot, and makes its checksums right: what is read is refused, or it is a NAT
// that goes on.
func FuzzRestore(f *testing.F) {
	n, c := stored(f)
	var whole bytes.Buffer
	require.NoError(f, n.Snapshot(&whole))
	n.Close()
	f.Add([]byte{})
	f.Add([]byte{0, 40, 1, 1, 0, 255})
	f.Fuzz(func(t *testing.T, changes []byte) {
		b := bytes.Clone(whole.Bytes())
		for ; len(changes) >= 3; changes = changes[3:] {
			b[int(binary.LittleEndian.Uint16(changes))%len(b)] = changes[2]
		}
		restoresOrRefuses(t, c, snapshot.Reseal(b))
	})
}

// restoresOrRefuses restores a snapshot that may be forged, and lets what it makes of it go on until nothing is left.
func restoresOrRefuses(t *testing.T, c snat.Config, b []byte) {
	n, err := snat.Restore(c, bytes.NewReader(b))
	if err != nil {
		require.Nil(t, n)
		return
	}
	n.Outbound(flow.At(2*time.Second), pkttest.TCP(socket(vmA, 5003), "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1)))
	_ = snapshotOf(t, n)
	n.Advance(flow.At(100*24*time.Hour), nil)
	n.Close()
}

// Each byte of a snapshot changed in a few ways is refused, or makes a NAT that goes on.
func TestRestoreForged(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	n, c := stored(t)
	b := snapshotOf(t, n)
	n.Close()
	for i := 0; i < len(b); i += pkttest.Operations(7, 1, 1) {
		for _, to := range []byte{0, 1, b[i] + 1, b[i] ^ 0x80, 255} {
			restoresOrRefuses(t, c, snapshot.Forge(b, i, []byte{to}))
		}
	}
}
