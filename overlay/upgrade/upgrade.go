// Package upgrade upgrades a node pool of a running cluster, as a process in virtual time. Read "Upgrade
// options and recommendations for AKS clusters" first.
//
// Terminology, used exactly so in names and comments:
//   - Surge node: one that the pool has for the duration of the upgrade only.
//   - Buffer: a node that can run the pods of one that is drained: at first the surge nodes,
//     then the nodes that have been made anew.
//   - Step: what happens at one time, to some nodes. All are planned when the upgrade starts (plan.go).
//
// An [Upgrade] drives an [overlay.Cluster] by its doors that change it, and only by them. It is for
// one goroutine at a time; others may use and change the cluster meanwhile. It refuses to know traffic: what
// becomes of flows is what the doors say.
package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Settings are how a pool is upgraded, besides its MaxSurge. The zero value of each
// field is a documented default.
type Settings struct {
	// MaxUnavailable is how many nodes may be drained at once without a node in their
	// place: for a pool whose MaxSurge is "0", which needs at least 1, or where even one
	// surge node is one too many for the cluster. 0 is none.
	MaxUnavailable int

	DrainTime   time.Duration // how long pods of a node take to leave it, 0 to 24 h; 0 means 1 minute (our choice)
	SoakTime    time.Duration // from drained to reimaged, 0 to 30 minutes
	ReimageTime time.Duration // how long a node takes to be made anew, 0 to 24 h; 0 means 5 minutes (our choice)
}

// Action is what a step of an upgrade does.
type Action uint8

// The actions, in their order.
const (
	Surge   Action = iota // surge nodes are added
	Cordon                // nodes take no further pods
	Drain                 // their pods have left them, and serve no Service before SetEndpoints
	Reimage               // they are made anew
	Ready                 // they take pods again
	Remove                // surge nodes are removed
	numActions
)

var actionNames = [...]string{"surge", "cordon", "drain", "reimage", "ready", "remove"}

var _ = [1]struct{}{}[len(actionNames)-int(numActions)] // one name per action

// String returns the name of the action, such as "drain".
func (a Action) String() string { return enum.Name(a, actionNames[:]) }

// Step is what an upgrade does at a time.
type Step struct {
	At     flow.Time // when
	Action Action    // what it does
	Nodes  []string  // names of the nodes that it is about
}

// Upgrade is an upgrade of a node pool that is going on.
type Upgrade struct {
	c     *overlay.Cluster
	pool  string
	start flow.Time
	with  Settings
	n     int // nodes to upgrade
	steps []planned
	nodes []string      // by number
	away  []overlay.Pod // drained, and without a node that has room
}

// Start begins the upgrade of a pool of c at now, as its MaxSurge and s say, and does
// nothing yet: [Upgrade.Advance] does. Nodes that join the pool later are not upgraded.
// Errors wrap [flow.ErrUnknownName] (the pool) or [flow.ErrOutOfRange].
func Start(c *overlay.Cluster, now flow.Time, pool string, s Settings) (*Upgrade, error) {
	of, ok := c.NodePool(pool)
	if !ok {
		return nil, fmt.Errorf("node pool %q: %w", pool, flow.ErrUnknownName)
	}
	u := &Upgrade{c: c, pool: pool, start: now}
	for _, n := range c.Nodes() {
		if n.Pool == pool {
			u.nodes = append(u.nodes, n.Name)
		}
	}
	surge, err := lb.MaxSurge(of.MaxSurge).Nodes(len(u.nodes))
	if err != nil {
		return nil, err
	}
	s, err = s.withDefaults()
	if err == nil && surge == 0 && len(u.nodes) > 0 && s.MaxUnavailable == 0 {
		err = problems.New("MaxUnavailable", s.MaxUnavailable, flow.ErrOutOfRange, "at least 1 without surge")
	}
	if err != nil {
		return nil, err
	}
	if u.with, u.n = s, len(u.nodes); u.n > 0 {
		u.steps = u.plan(surge, s.MaxUnavailable)
	}
	return u, nil
}

// withDefaults checks s by itself, and returns it with its defaults.
func (s Settings) withDefaults() (Settings, error) {
	var p problems.List
	for _, d := range []struct {
		field string
		value time.Duration
		most  time.Duration
	}{{"DrainTime", s.DrainTime, 24 * time.Hour}, {"SoakTime", s.SoakTime, 30 * time.Minute}, {"ReimageTime", s.ReimageTime, 24 * time.Hour}} {
		if d.value < 0 || d.value > d.most {
			p.Add(d.field, d.value, flow.ErrOutOfRange, "0 to %v", d.most)
		}
	}
	if s.MaxUnavailable < 0 {
		p.Add("MaxUnavailable", s.MaxUnavailable, flow.ErrOutOfRange, "at least 1 without surge")
	}
	s.DrainTime, s.ReimageTime = cmp.Or(s.DrainTime, time.Minute), cmp.Or(s.ReimageTime, 5*time.Minute)
	return s, p.Err()
}

// NextDeadline returns when the next step is due, and false once the upgrade is done.
func (u *Upgrade) NextDeadline() (flow.Time, bool) {
	if len(u.steps) == 0 {
		return 0, false
	}
	return u.start + flow.At(u.steps[0].after), true
}

// Advance does the steps that are due at now, and returns them. Pods that leave a node
// start again under their names, on the nodes of the cluster that run fewest; those
// for which there is no room wait ([Upgrade.Waiting]) until there is. Their flows end as those
// of pods do that end; endpoints of Services and host ports are for the caller to give
// anew ([overlay.Cluster.SetEndpoints]). A node that is made anew keeps its name, addresses and ports.
// Where ports or addresses do not suffice for the surge nodes, one is added, and if that is one too
// many, none but MaxUnavailable; a drain always succeeds. If a step fails, the error says why, and the
// step is next again.
func (u *Upgrade) Advance(now flow.Time) (done []Step, err error) {
	for {
		at, ok := u.NextDeadline()
		if !ok || at > now {
			return done, nil
		}
		next := u.steps[0]
		if err := u.do(at, next); err != nil {
			if next.action == Surge && u.fallBack(next.last-next.first, err) {
				continue
			}
			return done, fmt.Errorf("upgrade of node pool %q: %v: %w", u.pool, next.action, err)
		}
		done = append(done, Step{at, next.action, slices.Clone(u.nodes[next.first:next.last])})
		u.steps = u.steps[1:]
	}
}

// plan plans the upgrade.
func (u *Upgrade) plan(surge, unavailable int) []planned {
	return plan(u.n, surge, unavailable, times{drain: u.with.DrainTime, soak: u.with.SoakTime, reimage: u.with.ReimageTime})
}

// fallBack plans with fewer surge nodes, which have failed, and reports whether it could ("Upgrade
// options": on lack of quota one surge node, or what may be unavailable).
func (u *Upgrade) fallBack(surge int, err error) bool {
	scarce := errors.Is(err, lb.ErrInsufficientOutboundPorts) || errors.Is(err, overlay.ErrTooManyNodes) || errors.Is(err, flow.ErrOutOfRange)
	switch {
	case !scarce:
		return false
	case surge > 1:
		u.steps = u.plan(1, 0)
	case u.with.MaxUnavailable > 0:
		u.steps = u.plan(0, u.with.MaxUnavailable)
	default:
		return false
	}
	return true
}

// Waiting returns the pods that have left their node and found no room on another one.
func (u *Upgrade) Waiting() []overlay.Pod { return slices.Clone(u.away) }

// do does a step.
func (u *Upgrade) do(now flow.Time, s planned) error {
	switch s.action {
	case Surge:
		names, _, err := u.c.AddNodes(now, u.pool, s.last-s.first)
		u.nodes = append(u.nodes, names...)
		return err
	case Remove:
		left := slices.DeleteFunc(slices.Clone(u.nodes[s.first:s.last]), func(name string) bool {
			_, ok := u.c.Node(name)
			return !ok // a Reconfigure meanwhile has removed it
		})
		_, err := u.c.RemoveNodes(now, left...)
		return err
	}
	for _, name := range u.nodes[s.first:s.last] {
		if _, ok := u.c.Node(name); !ok {
			continue // somebody else has removed it
		}
		var err error
		switch s.action {
		case Cordon, Ready:
			err = u.c.Cordon(name, s.action == Cordon)
		case Drain:
			var pods []overlay.Pod
			pods, err = u.c.Drain(name)
			u.away = append(u.away, pods...)
		}
		if err != nil {
			return err
		}
	}
	u.settle()
	return nil
}

// settle starts pods that wait, each on the node that runs fewest.
func (u *Upgrade) settle() {
	if len(u.away) == 0 {
		return
	}
	run := make(map[string]int)
	for p := range u.c.Pods() {
		run[p.Node]++
	}
	nodes := slices.DeleteFunc(u.c.Nodes(), func(n overlay.Node) bool { return u.c.Cordoned(n.Name) })
	places := newPlaces(len(nodes), func(i int) (runs, room int) { return run[nodes[i].Name], nodes[i].MaxPods })
	u.away = slices.DeleteFunc(u.away, func(p overlay.Pod) bool {
		return places.fill(func(i int) bool {
			_, err := u.c.AddPod(nodes[i].Name, p.Name)
			return err == nil // else its name is taken, or the node has just gone
		})
	})
}
