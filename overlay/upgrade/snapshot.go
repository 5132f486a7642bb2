package upgrade

import (
	"fmt"
	"io"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay"
)

const (
	snapshotVersion = 1
	maxElements     = 1 << 24
)

// Snapshot writes u to w, without its cluster, which has a Snapshot of its own. The two are of one moment if
// the cluster does not change between them. Errors are those of w.
func (u *Upgrade) Snapshot(w io.Writer) error {
	a := snapshot.NewWriter(w, "upgrade.Upgrade", snapshotVersion)
	u.archive(a)
	return a.Close()
}

// Restore returns the upgrade that r has a snapshot of, which goes on in c: the cluster of the same moment,
// or one that has been restored from a snapshot of it. r is read to the end of the snapshot and no further.
// Errors are those of r, and what [flow.ErrDamaged] and its neighbours mark.
func Restore(c *overlay.Cluster, r io.Reader) (*Upgrade, error) {
	u := &Upgrade{c: c}
	a := snapshot.NewReader(r, "upgrade.Upgrade", snapshotVersion)
	if u.archive(a); a.OK() {
		u.check(a)
	}
	if err := a.Close(); err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	return u, nil
}

func (u *Upgrade) archive(a *snapshot.Archive) {
	a.Section("upgrade")
	a.Text(&u.pool, maxElements)
	snapshot.Num(a, &u.start)
	a.Value(&u.with, maxElements)
	snapshot.Num(a, &u.n)
	a.Value(&u.steps, maxElements)
	a.Value(&u.nodes, maxElements)
	a.Value(&u.away, maxElements)
}

// check refuses an upgrade that nobody has started: its steps are the end of a plan.
func (u *Upgrade) check(a *snapshot.Archive) {
	if _, err := u.with.withDefaults(); err != nil {
		a.Refuse("%v", err)
		return
	}
	if !a.Check(u.n >= 0 && u.n <= len(u.nodes), "%d nodes to upgrade, of %d", u.n, len(u.nodes)) || len(u.steps) == 0 {
		return
	}
	surge := 0
	if last := u.steps[len(u.steps)-1]; last.action == Remove {
		surge = last.last - last.first
	}
	if !a.Check(u.n > 0 && surge >= 0 && surge <= u.n && (surge > 0 || u.with.MaxUnavailable > 0), "%d nodes at once", surge) {
		return
	}
	plan := u.plan(surge, u.with.MaxUnavailable)
	done := len(plan) - len(u.steps)
	if !a.Check(done >= 0 && slices.Equal(plan[done:], u.steps), "steps that are of no plan") {
		return
	}
	if done == 0 {
		surge = 0 // they are yet to come
	}
	a.Check(len(u.nodes) == u.n+surge, "%d nodes, %d of them surge nodes, of %d", u.n+surge, surge, len(u.nodes))
}
