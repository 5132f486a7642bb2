package machine_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/overlay/internal/machine"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A machine that is read has counted what was written, and admits the same; no damage panics.
func TestArchive(t *testing.T) {
	l := machine.Limits{Limits: ceilings.Limits{Conntrack: 3, EphemeralPorts: 2}, PodPorts: 2}
	s, m := set(l)
	remote := netip.MustParseAddrPort("198.51.100.9:443")
	for port := range uint16(2) {
		s.Count(&flow.Info{Proto: 6, Inside: netip.AddrPortFrom(pod, port), Outside: netip.AddrPortFrom(host, port), Remote: remote}, 1)
	}
	b := snapshot.Written(s.Archive)
	r, n := set(l)
	require.NoError(t, snapshot.Read(b, r.Archive))
	require.Empty(t, likeness.Compare(m, n, nil))
	for _, inside := range []netip.Addr{host, pod} {
		f := snat.NewFlow{Protocol: 6, Inside: netip.AddrPortFrom(inside, 9), Remote: remote}
		require.Equal(t, s.Admit(f), r.Admit(f))
	}
	refused := 0
	snapshot.Damaged(b, func(_ int, bad []byte) {
		r, _ := set(l)
		if snapshot.Read(bad, r.Archive) != nil {
			refused++
			return
		}
		snapshot.Written(r.Archive)
	})
	require.NotZero(t, refused)
}
