package tallies

import (
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// Archive writes n, or makes it what was written. Others may count while it is written.
func (n *Counts) Archive(a *snapshot.Archive) {
	for side := range n {
		is := &n[side]
		number(a, &is.Forwarded)
		number(a, &is.WasForwarded)
		number(a, &is.WasBypassed)
		for r := range a.Len(len(is.Drops), len(is.Drops)) { // later versions may have more reasons
			number(a, &is.Drops[r])
		}
	}
}

func number(a *snapshot.Archive, n *atomic.Uint64) {
	v := n.Load()
	if snapshot.Num(a, &v); !a.Writing() {
		n.Store(v)
	}
}
