// Pods: the addresses of a node's pods and who has them.

package overlay

import (
	"fmt"
	"iter"
	"net/netip"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
	"github.com/seed-a61be3fe/natplane/overlay/internal/portmap"
)

// Pod is a pod and its addresses, a snapshot that the caller may keep and change.
type Pod struct {
	Name string // unique in the cluster
	Node string // name of the node that it runs on

	// Addrs are the pod's addresses, one per family of the cluster, IPv4 first.
	Addrs []netip.Addr
}

// pods is who has which address of the pod blocks, and which host ports.
type pods struct {
	mu        sync.RWMutex
	table     podtable.Table   // by index of the node; guarded by mu
	hostPorts portmap.Delivery // guarded by mu
}

// AddPod starts a pod on a node and gives it an address of the node's pod block
// in every family, at the same offset: ascending from .2 (IPv6 ::2), and from
// the beginning again once .254 has been used; under cni.NodeSubnet one of the
// addresses that the node keeps for pods, in the same order. The order is our choice; Azure
// documents none. The name must be new in the cluster.
//
// Errors wrap [flow.ErrMissing] (no name), [flow.ErrDuplicateName], [flow.ErrUnknownName] (no
// such node) or [ErrTooManyPods] (the node's MaxPods, or 200,000 in the
// cluster) or [ErrCordoned], and leave everything as it was.
func (c *Cluster) AddPod(node, name string) (Pod, error) {
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	s := c.state.Load() // which does not lose nodes while the lock is held
	n, ok := s.byName[node]
	switch {
	case !ok:
		return Pod{}, fmt.Errorf("pod %q: %w: node %q is not in the cluster", name, flow.ErrUnknownName, node)
	case name == "":
		return Pod{}, fmt.Errorf("pod name %q: %w", name, flow.ErrMissing)
	}
	if _, ok := p.table.Of(name); ok {
		return Pod{}, fmt.Errorf("pod %q: %w", name, flow.ErrDuplicateName)
	}
	if p.table.Cordoned(n) {
		return Pod{}, fmt.Errorf("pod %q: %w: node %s", name, ErrCordoned, node)
	}
	if pool := s.byIndex[n].Pool; s.config.pool(pool).Mode == ModeGateway {
		return Pod{}, fmt.Errorf("pod %q: %w: node %s is of gateway pool %q", name, ErrCordoned, node, pool)
	}
	if limit := s.byIndex[n].MaxPods; p.table.Count(n) >= limit {
		return Pod{}, fmt.Errorf("pod %q: %w: node %s runs its MaxPods of %d", name, ErrTooManyPods, node, limit)
	}
	if p.table.Len() >= MaxPodsPerCluster {
		return Pod{}, fmt.Errorf("pod %q: %w: the cluster runs %d", name, ErrTooManyPods, MaxPodsPerCluster)
	}
	at := p.table.Add(n, name, s.places.Room(n))
	if s.strict {
		s.live[n].Set(at.Offset, true)
	}
	return s.pod(name, at), nil
}

// RemovePod ends a pod and frees its addresses. Its flows stay until they
// expire, as they do on a node whose pod is gone, and it serves no Service any more. The error wraps
// [flow.ErrUnknownName] if there is no such pod.
func (c *Cluster) RemovePod(name string) error {
	defer c.withdraw(Endpoint{Pod: name})
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.table.Of(name)
	if !ok {
		return fmt.Errorf("pod %q: %w", name, flow.ErrUnknownName)
	}
	s := c.state.Load()
	c.gateways.Release(s.pod(name, at).Addrs[ipv4])
	p.remove(s, name)
	return nil
}

// remove ends the pod of a name, which there is. p.mu must be held.
func (p *pods) remove(s *state, name string) {
	p.hostPorts.Release(name)
	if at := p.table.Remove(name); s.strict {
		s.live[at.Node].Set(at.Offset, false)
	}
}

// leave ends all pods of a node that goes. p.mu must be held.
func (p *pods) leave(node int) {
	for _, name := range p.table.Clear(node) {
		p.hostPorts.Release(name)
	}
}

// Pod returns the pod of that name.
func (c *Cluster) Pod(name string) (Pod, bool) {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	at, ok := c.pods.table.Of(name)
	if !ok {
		return Pod{}, false
	}
	return c.state.Load().pod(name, at), true
}

// PodByAddr returns the pod that has the address now. Together with the inside
// address of a flow it tells whose flow that is.
func (c *Cluster) PodByAddr(a netip.Addr) (Pod, bool) {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	s := c.state.Load()
	name, at := c.pods.at(s, a)
	if name == "" {
		return Pod{}, false
	}
	return s.pod(name, at), true
}

// podAt returns the name of the pod that has the address now, or "".
func (c *Cluster) podAt(a netip.Addr) string {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	name, _ := c.pods.at(c.state.Load(), a)
	return name
}

// at returns the name of the pod that has the address now, or "", and its place. p.mu must
// be held.
func (p *pods) at(s *state, a netip.Addr) (name string, at podtable.Place) {
	node, offset, ok := s.places.Locate(a)
	if !ok {
		return "", podtable.Place{}
	}
	return p.table.At(node, offset), podtable.Place{Node: node, Offset: int(offset)}
}

// Pods iterates over the pods, node by node and by ascending address. Pods that
// come or go meanwhile may or may not appear.
func (c *Cluster) Pods() iter.Seq[Pod] {
	return func(yield func(Pod) bool) {
		for node := 0; ; node++ {
			c.pods.mu.RLock()
			s := c.state.Load()
			if node >= len(s.byIndex) {
				c.pods.mu.RUnlock()
				return
			}
			names := c.pods.table.Names(node)
			c.pods.mu.RUnlock()
			for i, name := range names {
				if name != "" && !yield(s.pod(name, podtable.Place{Node: node, Offset: addressing.FirstPodOffset + i})) {
					return
				}
			}
		}
	}
}

// pod describes the pod of that name at a place.
func (s *state) pod(name string, at podtable.Place) Pod {
	return Pod{Name: name, Node: s.byIndex[at.Node].Name, Addrs: s.places.PodAddrs(at.Node, at.Offset)}
}
