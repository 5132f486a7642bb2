package rendezvous

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

var update = flag.Bool("update", false, "write testdata anew")

const goldenKey = 0x0123456789abcdef

var fieldNames = map[Fields]string{FiveTuple: "five-tuple", SourceIP: "source-ip", SourceIPProtocol: "source-ip-protocol"}

// bytesOf is the dull twin: the bytes that the package comment describes.
func bytesOf(key uint64, f Fields, proto uint8, src, dst netip.AddrPort) []byte {
	b := fmt.Appendf(nil, "%016x%x%x", key, src.Addr().AsSlice(), dst.Addr().AsSlice())
	if f == FiveTuple {
		b = fmt.Appendf(b, "%04x%04x", src.Port(), dst.Port())
	}
	if f != SourceIP {
		b = fmt.Appendf(b, "%02x", proto)
	}
	raw, err := hex.DecodeString(string(b))
	if err != nil {
		panic(err)
	}
	return raw
}

// The golden table: flows, the hash of each by each choice of fields, and who of ten
// members gets it. It must never change: distributions outlive versions.
func TestGolden(t *testing.T) {
	const file = "testdata/golden.txt"
	names := make([]uint64, 10)
	for i := range names {
		names[i] = Name(fmt.Sprintf("vm-%d", i))
	}
	ten, three := New(names, except(10, -1)), New(names[:3], except(3, -1))
	var b strings.Builder
	fmt.Fprintf(&b, "# key %016x; members vm-0 to vm-9, and of three vm-0 to vm-2\n# protocol source destination fields hash of-ten of-three\n", uint64(goldenKey))
	for _, line := range []struct {
		proto    uint8
		src, dst string
	}{
		{6, "203.0.113.9:41000", "20.50.1.1:443"},
		{6, "203.0.113.9:41001", "20.50.1.1:443"},
		{17, "203.0.113.9:41000", "20.50.1.1:443"},
		{6, "203.0.113.10:41000", "20.50.1.1:443"},
		{6, "203.0.113.9:41000", "20.50.1.2:443"},
		{6, "203.0.113.9:41000", "20.50.1.1:80"},
		{6, "[2001:db8:c::9]:41000", "[2001:db8:50:1::1]:443"},
		{17, "[2001:db8:c::9]:41000", "[2001:db8:50:1::1]:53"},
		{6, "[2001:db8:c:1::9]:41000", "[2001:db8:50:1::1]:443"},
		{6, "[2001:db8:c::a]:41000", "[2001:db8:50:1::1]:443"},
	} {
		src, dst := netip.MustParseAddrPort(line.src), netip.MustParseAddrPort(line.dst)
		for f := FiveTuple; f <= SourceIPProtocol; f++ {
			var hash uint64
			if src.Addr().Is4() {
				k := flow.MakeKey(src, dst, line.proto, 77)
				hash = Hash4(goldenKey, f, &k)
			} else {
				k := flow.MakeKey6(src, dst, line.proto, 77)
				hash = Hash6(goldenKey, f, &k)
			}
			assert.Equal(t, xxhash.Sum64(bytesOf(goldenKey, f, line.proto, src, dst)), hash)
			fmt.Fprintf(&b, "%d %v %v %s %016x vm-%d vm-%d\n", line.proto, src, dst, fieldNames[f], hash, ten.At(hash), three.At(hash))
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String())
}

func TestHashPanics(t *testing.T) {
	assert.Panics(t, func() { Hash4(1, 3, &flow.Key{}) })
	assert.Panics(t, func() { Hash6(1, 3, &flow.Key6{}) })
}

func TestHashDoesNotAllocate(t *testing.T) {
	k, k6 := flow.Key{Src: 1, Dst: 2, VNIProto: 6}, flow.Key6{Src: [2]uint64{1, 2}, VNIProto: 6}
	assert.Zero(t, testing.AllocsPerRun(100, func() { Hash4(1, FiveTuple, &k); Hash6(1, FiveTuple, &k6) }))
}

func BenchmarkHash(b *testing.B) {
	k, k6 := flow.Key{Src: 1, Dst: 2, VNIProto: 6}, flow.Key6{Src: [2]uint64{1, 2}, VNIProto: 6}
	b.Run("ip=4", func(b *testing.B) {
		for b.Loop() {
			k.Src = uint32(Hash4(1, FiveTuple, &k))
		}
	})
	b.Run("ip=6", func(b *testing.B) {
		for b.Loop() {
			k6.Src[0] = Hash6(1, FiveTuple, &k6)
		}
	})
}
