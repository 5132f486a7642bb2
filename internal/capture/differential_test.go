package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// randomFrames returns frames with times and lengths of their own.
func randomFrames(random *rand.Rand) (frames [][]byte, infos []gopacket.CaptureInfo) {
	at := time.Unix(int64(random.Uint32()), 0)
	for range 1 + random.IntN(20) {
		f := make([]byte, random.IntN(2000))
		for i := range f {
			f[i] = byte(random.Uint32())
		}
		at = at.Add(time.Duration(random.Int64N(1e9)) / 1000 * 1000) // microseconds
		frames = append(frames, f)
		infos = append(infos, gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(f), Length: len(f) + random.IntN(2)*random.IntN(1000)})
	}
	return frames, infos
}

// walked returns the frames of a file that must be sound.
func walked(t *testing.T, file []byte) (frames []frame) {
	t.Helper()
	w := walker{visit: func(f frame) { frames = append(frames, f) }, spoilt: func(err error) { require.NoError(t, err) }}
	known, err := w.walk(file)
	require.NoError(t, err)
	require.True(t, known)
	return frames
}

// Files that gopacket writes and reads have the same frames here: pcap of both
// byte orders and resolutions, and pcapng with several interfaces.
func TestFramesAreThoseOfGopacket(t *testing.T) {
	const seed, rounds = 6, 100
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		frames, infos := randomFrames(random)
		var files [][]byte
		for _, w := range []func(io.Writer) *pcapgo.Writer{pcapgo.NewWriter, pcapgo.NewWriterNanos} {
			var file bytes.Buffer
			pcap := w(&file)
			require.NoError(t, pcap.WriteFileHeader(MaxFrameLen, layers.LinkTypeEthernet))
			for i, f := range frames {
				require.NoError(t, pcap.WritePacket(infos[i], f))
			}
			files = append(files, file.Bytes(), swapped(file.Bytes()))
		}
		var file bytes.Buffer
		links := []layers.LinkType{layers.LinkTypeEthernet, layers.LinkTypeRaw, layers.LinkTypeLinuxSLL}
		pcapng, err := pcapgo.NewNgWriter(&file, links[0])
		require.NoError(t, err)
		for _, link := range links[1:] {
			_, err := pcapng.AddInterface(pcapgo.NgInterface{LinkType: link})
			require.NoError(t, err)
		}
		for i, f := range frames {
			infos[i].InterfaceIndex = random.IntN(len(links))
			require.NoError(t, pcapng.WritePacket(infos[i], f))
		}
		require.NoError(t, pcapng.Flush())
		files = append(files, file.Bytes())

		for n, file := range files {
			var reader interface {
				ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
				LinkType() layers.LinkType
			}
			if n < 4 {
				reader, err = pcapgo.NewReader(bytes.NewReader(file))
			} else {
				reader, err = pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
			}
			require.NoError(t, err)
			got := walked(t, file)
			require.Len(t, got, len(frames), "round %d, file %d", round, n)
			for i := range got {
				data, info, err := reader.ReadPacketData()
				require.NoError(t, err)
				link := reader.LinkType()
				if n == 4 {
					link = info.AncillaryData[0].(layers.LinkType)
				}
				require.Equal(t, data, append([]byte{}, got[i].data...))
				require.Equal(t, uint16(link), got[i].link)
				require.Equal(t, info.Length, got[i].length)
				require.True(t, info.Timestamp.Equal(got[i].at), "%v, %v", info.Timestamp, got[i].at)
			}
			_, _, err := reader.ReadPacketData()
			assert.Equal(t, io.EOF, err)
		}
	}
}

// swapped returns a little-endian pcap file in the other byte order.
func swapped(file []byte) []byte {
	file = bytes.Clone(file)
	words := func(at int, sizes ...int) {
		for _, size := range sizes {
			for i, j := at, at+size-1; i < j; i, j = i+1, j-1 {
				file[i], file[j] = file[j], file[i]
			}
			at += size
		}
	}
	words(0, 4, 2, 2, 4, 4, 4, 4)
	for at := 24; at < len(file); {
		kept := int(binary.LittleEndian.Uint32(file[at+8:]))
		words(at, 4, 4, 4, 4)
		at += 16 + kept
	}
	return file
}
