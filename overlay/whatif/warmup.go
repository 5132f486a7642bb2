// Warm-up: what all settings of a sweep have in common, simulated once.

package whatif

import (
	"context"
	"reflect"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// warmed is a simulation at the end of its warm-up. Nothing changes it any more, so that several
// tasks may copy it at once.
type warmed struct {
	*running
	plan *Plan
}

// warm simulates the warm-up of a plan.
func (p *Plan) warm(ctx context.Context, passed func(time.Duration)) (*warmed, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := p.begin(nil)
	if err != nil {
		return nil, err
	}
	err = r.advance(ctx, p.WarmUp, func(more time.Duration, _ *Simulation) bool {
		passed(more)
		return true
	})
	if err != nil {
		r.close()
		return nil, err
	}
	return &warmed{r, p}, nil
}

// fork returns a copy of w that goes on with a change.
func (w *warmed) fork(change func(*overlay.ClusterConfig, *Workload)) (*running, error) {
	config, workload := w.plan.changed(change)
	var l problems.List
	if !reflect.DeepEqual(workload, w.plan.Workload) {
		l.Add("Workload", problems.None, flow.ErrConflict, "a setting cannot change it after a WarmUp")
		return nil, l.Err()
	}
	cluster, err := w.cluster.Fork(overlay.Ties{})
	if err != nil {
		return nil, err
	}
	if change != nil {
		if _, err = cluster.Reconfigure(w.begin.Add(w.at), config); err == nil {
			err = w.lost(cluster)
		}
	}
	if err != nil {
		cluster.Close()
		return nil, err
	}
	return &running{w.Fork(cluster, nil), cluster, w.at}, nil
}

// lost returns an error if a host has no pod in a cluster.
func (w *warmed) lost(in *overlay.Cluster) error {
	there, here := addrsOf(in), addrsOf(w.cluster)
	var l problems.List
	for a := range w.byAddr {
		if here[a] && !there[a] {
			l.Add("Cluster.NodePools", problems.None, flow.ErrConflict, "a setting cannot take away nodes whose pods send after a WarmUp")
			break
		}
	}
	return l.Err()
}

// addrsOf returns the addresses of the pods of a cluster.
func addrsOf(c *overlay.Cluster) map[addr]bool {
	all := make(map[addr]bool)
	for p := range c.Pods() {
		for _, a := range p.Addrs {
			all[addrOf(a)] = true
		}
	}
	return all
}
