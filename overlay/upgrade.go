// Upgrade of a node pool as a process in virtual time. Read "Upgrade options and
// recommendations for AKS clusters" first.

package overlay

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/rollout"
)

// UpgradeSettings are how a pool is upgraded, besides its MaxSurge. The zero value of each
// field is a documented default.
type UpgradeSettings struct {
	// MaxUnavailable is how many nodes may be drained at once without a node in their
	// place: for a pool whose MaxSurge is "0", which needs at least 1, or where even one
	// surge node is one too many for the cluster. 0 is none.
	MaxUnavailable int

	DrainTime   time.Duration // how long pods of a node take to leave it, 0 to 24 h; 0 means 1 minute (our choice)
	SoakTime    time.Duration // from drained to reimaged, 0 to 30 minutes
	ReimageTime time.Duration // how long a node takes to be made anew, 0 to 24 h; 0 means 5 minutes (our choice)
}

// UpgradeAction is what a step of an upgrade does.
type UpgradeAction uint8

// The steps, in their order.
const (
	UpgradeSurge   UpgradeAction = iota // surge nodes are added
	UpgradeCordon                       // nodes take no further pods
	UpgradeDrain                        // their pods have left them
	UpgradeReimage                      // they are made anew
	UpgradeReady                        // they take pods again
	UpgradeRemove                       // surge nodes are removed
	numUpgradeActions
)

var upgradeActionNames = [...]string{"surge", "cordon", "drain", "reimage", "ready", "remove"}

var (
	_ = [1]struct{}{}[len(upgradeActionNames)-int(numUpgradeActions)] // one name per action
	_ = [1]struct{}{}[numUpgradeActions-UpgradeAction(rollout.NumActions)]
)

// String returns the name of the action, such as "drain".
func (a UpgradeAction) String() string { return enum.Name(a, upgradeActionNames[:]) }

// UpgradeStep is what an upgrade does at a time.
type UpgradeStep struct {
	At     flow.Time     // when
	Action UpgradeAction // what it does
	Nodes  []string      // names of the nodes that it is about
}

// Upgrade is an upgrade of a node pool that is going on. It is for one goroutine at a time; the
// cluster may be used by others meanwhile.
type Upgrade struct {
	c     *Cluster
	pool  string
	start flow.Time
	with  UpgradeSettings
	n     int // nodes to upgrade
	steps []rollout.Step
	nodes []string // by number
	away  []Pod    // drained, and without a node that has room
}

// StartUpgrade begins the upgrade of a pool at now, as its MaxSurge and s say, and does
// nothing yet: [Upgrade.Advance] does. Nodes that join the pool later are not upgraded.
// Errors wrap [flow.ErrUnknownName] (the pool) or [flow.ErrOutOfRange].
func (c *Cluster) StartUpgrade(now flow.Time, pool string, s UpgradeSettings) (*Upgrade, error) {
	st := c.state.Load()
	at := slices.IndexFunc(st.config.NodePools, func(p NodePool) bool { return p.Name == pool })
	if at < 0 {
		return nil, fmt.Errorf("node pool %q: %w", pool, flow.ErrUnknownName)
	}
	u := &Upgrade{c: c, pool: pool, start: now}
	for _, n := range st.nodes {
		if n.Pool == pool {
			u.nodes = append(u.nodes, n.Name)
		}
	}
	surge, err := lb.MaxSurge(st.config.NodePools[at].MaxSurge).Nodes(len(u.nodes))
	if err != nil {
		return nil, err
	}
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
	if s.MaxUnavailable < 0 || surge == 0 && len(u.nodes) > 0 && s.MaxUnavailable == 0 {
		p.Add("MaxUnavailable", s.MaxUnavailable, flow.ErrOutOfRange, "at least 1 without surge")
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	setDefault(&s.DrainTime, time.Minute)
	setDefault(&s.ReimageTime, 5*time.Minute)
	if u.with, u.n = s, len(u.nodes); u.n > 0 {
		u.steps = u.plan(surge, s.MaxUnavailable)
	}
	return u, nil
}

// NextDeadline returns when the next step is due, and false once the upgrade is done.
func (u *Upgrade) NextDeadline() (flow.Time, bool) {
	if len(u.steps) == 0 {
		return 0, false
	}
	return u.start + flow.At(u.steps[0].After), true
}

// Advance does the steps that are due at now, and returns them. Pods that leave a node
// start again under their names, on the nodes of the cluster that run fewest; those
// for which there is no room wait ([Upgrade.Waiting]) until there is. Their flows end as those
// of pods do that end; endpoints of Services and host ports are for the caller to give
// anew. A node that is made anew keeps its name, addresses and ports. Where ports or addresses do not
// suffice for the surge nodes, one is added, and if that is one too many, none but
// MaxUnavailable; a drain always succeeds. If a step fails, the error says why, and the step is next again.
func (u *Upgrade) Advance(now flow.Time) (done []UpgradeStep, err error) {
	for {
		at, ok := u.NextDeadline()
		if !ok || at > now {
			return done, nil
		}
		next := u.steps[0]
		if err := u.do(at, next); err != nil {
			if UpgradeAction(next.Action) == UpgradeSurge && u.fallBack(next.Last-next.First, err) {
				continue
			}
			return done, fmt.Errorf("upgrade of node pool %q: %v: %w", u.pool, UpgradeAction(next.Action), err)
		}
		done = append(done, UpgradeStep{at, UpgradeAction(next.Action), slices.Clone(u.nodes[next.First:next.Last])})
		u.steps = u.steps[1:]
	}
}

// plan plans the upgrade.
func (u *Upgrade) plan(surge, unavailable int) []rollout.Step {
	return rollout.Plan(u.n, surge, unavailable, rollout.Times{Drain: u.with.DrainTime, Soak: u.with.SoakTime, Reimage: u.with.ReimageTime})
}

// fallBack plans with fewer surge nodes, which have failed, and reports whether it could ("Upgrade
// options": on lack of quota one surge node, or what may be unavailable).
func (u *Upgrade) fallBack(surge int, err error) bool {
	scarce := errors.Is(err, lb.ErrInsufficientOutboundPorts) || errors.Is(err, ErrTooManyNodes) || errors.Is(err, flow.ErrOutOfRange)
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
func (u *Upgrade) Waiting() []Pod { return slices.Clone(u.away) }

// do does a step.
func (u *Upgrade) do(now flow.Time, s rollout.Step) error {
	action := UpgradeAction(s.Action)
	switch action {
	case UpgradeSurge:
		names, _, err := u.c.AddNodes(now, u.pool, s.Last-s.First)
		u.nodes = append(u.nodes, names...)
		return err
	case UpgradeRemove:
		left := slices.DeleteFunc(slices.Clone(u.nodes[s.First:s.Last]), func(name string) bool {
			_, ok := u.c.Node(name)
			return !ok // a Reconfigure meanwhile has removed it
		})
		_, err := u.c.RemoveNodes(now, left...)
		return err
	}
	for _, name := range u.nodes[s.First:s.Last] {
		if _, ok := u.c.Node(name); !ok {
			continue // somebody else has removed it
		}
		var err error
		switch action {
		case UpgradeCordon, UpgradeReady:
			err = u.c.Cordon(name, action == UpgradeCordon)
		case UpgradeDrain:
			var pods []Pod
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
	nodes := slices.DeleteFunc(u.c.Nodes(), func(n Node) bool { return u.c.Cordoned(n.Name) })
	places := rollout.NewPlaces(len(nodes), func(i int) (runs, room int) { return run[nodes[i].Name], nodes[i].MaxPods })
	u.away = slices.DeleteFunc(u.away, func(p Pod) bool {
		return places.Fill(func(i int) bool {
			_, err := u.c.AddPod(nodes[i].Name, p.Name)
			return err == nil // else its name is taken, or the node has just gone
		})
	})
}
