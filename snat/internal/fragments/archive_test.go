package fragments

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// archiveLimits are small, so that few datagrams reach them.
var archiveLimits = Limits{Lifetime: flow.At(5 * time.Second), MaxDatagrams: 12, MaxPerSource: 4, MaxPerDatagram: 8, MaxQueuedBytes: 16 << 10}

// crowdedBed is a table with datagrams in every stage, from both sides, and packets that leave.
func crowdedBed(t testing.TB, e ends) *bed {
	b := newBed(t, e, archiveLimits)
	for i := range uint32(3) {
		b.now += flow.At(time.Second)
		host := b.host(7 + i)
		b.send(flow.Inside, 7+i, b.cut(host, e.remote, 5000, 53, 10*i, 8, 16, true)) // waits
		b.send(flow.Inside, 7+i, b.cut(host, e.remote, 5000, 53, 10*i, 16, 24, false))
		b.send(flow.Inside, 7+i, b.cut(host, e.remote, 5000, 53, 10*i+1, 0, 8, true)) // is open
		b.send(flow.Outside, 0, b.cut(e.remote, e.frontend, 53, uint16(7+i), 10*i+2, 0, 8, true))
		b.send(flow.Outside, 0, b.cut(e.remote, e.frontend, 53, uint16(7+i), 10*i+2, 8, 16, false)) // is complete
		b.send(flow.Outside, 0, b.cut(e.remote, e.frontend, 53, uint16(7+i), 10*i+3, 64, 300, false))
	}
	b.send(flow.Inside, 7, b.cut(b.host(7), e.remote, 5000, 53, 0, 0, 8, true)) // lets two leave
	return b
}

// restored returns a table that has been read into.
func restored(t testing.TB, e ends, b []byte) (*bed, error) {
	to := newBed(t, e, archiveLimits)
	return to, snapshot.Read(b, func(a *snapshot.Archive) { require.True(t, to.Archive(a)) })
}

// A table that has been read is what was written, and goes on as that does.
func TestArchive(t *testing.T) {
	for name, e := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := crowdedBed(t, e)
			written := snapshot.Written(func(a *snapshot.Archive) { b.Archive(a) })
			to, err := restored(t, e, written)
			require.NoError(t, err)
			require.True(t, bytes.Equal(written, snapshot.Written(func(a *snapshot.Archive) { to.Archive(a) })))
			to.now, to.ids.next4, to.ids.next6 = b.now, b.ids.next4, b.ids.next6
			for _, b := range []*bed{b, to} {
				for i := range uint32(3) {
					b.send(flow.Inside, 7+i, b.cut(b.host(7+i), e.remote, 5000, 53, 10*i, 0, 8, true))
					b.send(flow.Inside, 7+i, b.cut(b.host(7+i), e.remote, 5000, 53, 10*i+1, 8, 16, false))
					b.send(flow.Inside, 7+i, b.cut(b.host(7+i), e.remote, 5000, 53, 10*i+5, 64, 128, true))
				}
				b.dropped = [2]map[flow.Reason]int{{}, {}}
				b.advance(b.now)
				b.advance(b.now.Add(time.Minute))
			}
			require.NotEmpty(t, b.left)
			require.Equal(t, b.left, to.left)
			require.Equal(t, b.dropped, to.dropped)
			is, was := to.Stats(), b.Stats()
			is.Bytes = was.Bytes
			require.Equal(t, was, is)
		})
	}
}

// What somebody has forged is refused, or is a table that can be: none panics, now or later.
func TestArchiveForged(t *testing.T) {
	pkttest.OneGoroutine(t)
	for name, e := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := crowdedBed(t, e)
			refused := 0
			written := snapshot.Written(func(a *snapshot.Archive) { b.Archive(a) })
			t.Log(len(written), "bytes")
			for i := range written {
				forged := snapshot.Forge(written, i, []byte{written[i] ^ []byte{1, 2, 4, 0x40, 0xff}[i%5]})
				to, err := restored(t, e, forged)
				if err != nil {
					to.Close()
					refused++
					continue
				}
				to.now = b.now
				to.Table.carried = func(flow.Side, bool, *[2]uint64, uint8, int) {} // what is forged may be of any protocol
				to.verify(func(format string, args ...any) { require.Failf(t, "not whole", format, args...) })
				to.send(flow.Inside, 8, b.cut(b.host(8), e.remote, 5000, 53, 10, 0, 8, true))
				for i := range uint32(6) {
					to.send(flow.Inside, 7+i, b.cut(b.host(7+i), e.remote, 5000, 53, 90+i, 64, 128, true))
				}
				to.advance(b.now)
				to.advance(b.now.Add(time.Minute))
				to.Close()
			}
			require.NotZero(t, refused)
		})
	}
}

// Errors say what is wrong.
func TestVerify(t *testing.T) {
	for want, spoil := range map[string]func(*bed){
		"is in a list twice, or none": func(b *bed) { b.lists[waiting].head = 1 << 20 },
		"is not where it belongs":     func(b *bed) { b.datagrams.At(b.lists[open].head).in[inStage].prev = 3 },
		"a list of datagrams ends":    func(b *bed) { b.lists[spent].tail++ },
		"is not of source":            func(b *bed) { b.datagrams.At(b.lists[open].head).key.Src[0]++ },
		"has the verdict":             func(b *bed) { b.datagrams.At(b.lists[spent].head).reason = flow.NumReasons },
		"is another's, or none":       func(b *bed) { b.pieces.At(b.datagrams.At(b.lists[waiting].head).pieces).next = 1 << 20 },
		"bytes to go":                 func(b *bed) { b.pieces.At(b.datagrams.At(b.lists[waiting].head).pieces).size += cellSize },
		"has no packet":               func(b *bed) { b.pieces.At(b.releases.At(b.leaving.head).pieces).cell = 0 },
		"the list of 1 releases":      func(b *bed) { b.leaving.tail++ },
		"source {addr":                func(b *bed) { b.sources.At(b.datagrams.At(b.lists[open].head).source).all++ },
		"is at place":                 func(b *bed) { slices.Reverse(b.ranks[cellLoad]) },
		"pieces of datagrams":         func(b *bed) { b.queued++ },
		"and lacks":                   func(b *bed) { b.owners.At(b.ranks[datagramLoad][0]).lists[waiting] = list{} },
	} {
		b := crowdedBed(t, byFamily["IPv4"])
		spoil(b)
		said := ""
		require.False(t, b.verify(func(format string, args ...any) { said += fmt.Sprintf(format, args...) }))
		b.Table = New(Config{})
		require.Contains(t, said, want)
	}
}
