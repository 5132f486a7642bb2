package rejects_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/rejects"
)

// Answers that wait are sent by what is restored, and limited as by the original; no damage panics.
func TestArchive(t *testing.T) {
	add := func(o *rejects.Outbox, at flow.Time, i int) {
		var p wire.Packet
		pkt := pkttest.UDP(fmt.Sprintf("10.244.0.%d:5000", i), "10.0.0.9:80", "query")
		require.Equal(t, wire.OK, wire.Parse(pkt, &p))
		o.Add(at, 3, netip.MustParseAddr("10.224.0.4"), flow.Inside, &p)
	}
	var o, restored rejects.Outbox
	for i := range 12 {
		add(&o, 7, 2+i)
	}
	b := snapshot.Written(o.Archive)
	require.NoError(t, snapshot.Read(b, restored.Archive))
	require.Empty(t, likeness.Compare(&o, &restored, nil))
	var sent [2][]flow.Emission
	for i, of := range []*rejects.Outbox{&o, &restored} {
		add(of, 9, 40)
		of.Advance(func(e flow.Emission) { sent[i] = append(sent[i], e) })
	}
	require.NotEmpty(t, sent[0])
	require.Equal(t, sent[0], sent[1])
	refused := 0
	snapshot.Damaged(b, func(_ int, bad []byte) {
		var o rejects.Outbox
		if snapshot.Read(bad, o.Archive) != nil {
			refused++
			return
		}
		o.Advance(nil)
	})
	require.NotZero(t, refused)
}
