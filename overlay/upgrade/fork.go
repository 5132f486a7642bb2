package upgrade

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/overlay"
)

// Fork returns a copy of u that goes on by itself in a copy of its cluster, of the same moment.
func (u *Upgrade) Fork(c *overlay.Cluster) *Upgrade {
	to := *u
	to.c, to.steps, to.nodes, to.away = c, slices.Clone(u.steps), slices.Clone(u.nodes), slices.Clone(u.away)
	return &to
}
