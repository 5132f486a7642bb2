package snat

import (
	"cmp"
	"io"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

const (
	snapshotKind    = "snat.NAT"
	snapshotVersion = 1
)

// mayDiffer are the fields of a Config that do not change what becomes of packets, or cannot be written.
var mayDiffer = []string{"Shards", "HashKey", "Hooks", "Admit"}

// Snapshot writes all that n remembers to w, as it is at one moment, so that [Restore] makes another
// NAT of it that does from then on what n would do, byte for byte. It is versioned and checksummed, and
// the same whatever the size of words and the order of bytes of a machine. It can be read with any number of shards.
//
// Others who use n wait until all is written, so w should be fast; where it is not, write a [NAT.Fork] of n.
// w must not use n. It fails with [flow.ErrClosed] if n is closed, and with the error of w. Cost:
// O(sessions + instances + ports), about half a second for a million sessions, and 64 KiB of memory.
func (n *NAT) Snapshot(w io.Writer) error {
	return n.SnapshotWith(w, func() error { return nil })
}

// SnapshotWith is Snapshot that calls also at the same moment, when n has been written and while
// everybody who uses n waits: other translators are written there that have to be of the same moment.
// also must not use n. Its error is that of SnapshotWith.
func (n *NAT) SnapshotWith(w io.Writer, also func() error) error {
	n.control.Lock()
	defer n.control.Unlock()
	a := snapshot.NewWriter(w, snapshotKind, snapshotVersion)
	n.config.archive(a)
	n.config.archiveShards(a, n.plane.NumShards())
	return n.plane.Archive(a, func() error {
		if err := a.Close(); err != nil {
			return err
		}
		return also()
	})
}

// Restore returns the NAT that [NAT.Snapshot] has written to r, with the configuration that was in
// force then. Shards, HashKey, Hooks and Admit may be others, and of the latter
// two should do the same as those of the original: they cannot be written. With the same number of Shards,
// sessions keep their IDs and their order. With another number what happens in one millisecond may happen
// in another order, and RSTs within Policy.ResetRate are counted anew. No hook is told of a Restore.
//
// It reads what belongs to the snapshot, and leaves what comes behind it in r. It fails with
// [flow.ErrDamaged] if anything is not as it was written, with [flow.ErrVersion] if it was written by a later
// program, with [flow.ErrOtherConfig], naming the fields, if config is not what was in force, with [flow.ErrMemory],
// with the error of r, and as [New] does. Then there is no NAT. Cost: O(sessions + instances + ports), about a second
// for a million sessions.
func Restore(config Config, r io.Reader) (*NAT, error) {
	c := config.settings()
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &NAT{config: c.clone(&settings{}), queries: c.ICMP.Queries}
	a := snapshot.NewReader(r, snapshotKind, snapshotVersion)
	n.config.archive(a)
	shards := n.config.archiveShards(a, n.config.shards())
	if err := a.Err(); err != nil {
		return nil, err
	}
	if err := n.plane.Restore(n.config.fixed(shards), n.compiled(&settings{}), a); err != nil {
		return nil, err
	}
	if err := a.Close(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// archiveShards writes how many shards a translator needs for policies that it began with, if it has more
// than it was asked for; else 0. Or it reads that, and returns how many one has that is restored, which has
// at least as many: policies that were possible still are.
func (s *settings) archiveShards(a *snapshot.Archive, has int) int {
	needs := has
	if has == cmp.Or(s.Shards, flow.DefaultShards) {
		needs = 0
	}
	if snapshot.Num(a, &needs); !a.Check(needs >= 0 && needs <= flow.MaxShards, "%d shards", needs) {
		return 0
	}
	return max(has, needs)
}

// archive writes what s is, or compares it.
func (s settings) archive(a *snapshot.Archive) {
	a.Section("configuration")
	s.Ports = nil // Owned and shared say the same
	a.Config(&s, mayDiffer...)
	if s.shared != nil {
		a.Config(s.shared)
	}
}
