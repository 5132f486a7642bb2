// Pods: the addresses of a node's pod block and who has them.

package overlay

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Pod is a pod and its addresses, a snapshot that the caller may keep and change.
type Pod struct {
	Name string // unique in the cluster
	Node string // name of the node that it runs on

	// Addrs are the pod's addresses, one per family of the cluster, IPv4 first.
	Addrs []netip.Addr
}

// pods is who has which address of the pod blocks.
type pods struct {
	mu     sync.RWMutex
	byName map[string]podPlace // guarded by mu
	blocks []podNames          // by node index; guarded by mu

	hostPorts podHostPorts // guarded by mu
}

// podOffsetWords is the size of a bitmap over the first 256 addresses of a block.
const podOffsetWords = 256 / 64

// podPlace is an address: the node whose block it is in, and the offset there.
type podPlace struct{ node, offset int }

// podNames is the pods of one block.
type podNames struct {
	names []string // by offset less firstPodOffset, "" is free; as long as needed
	n     int      // pods
	next  int      // where to look for a free address first

	cordoned bool // takes no further pods
}

// take puts a pod at the next free offset after the one given last, so that an
// address rests as long as possible before it is used again.
func (b *podNames) take(name string) (offset int) {
	for i := range podOffsets {
		at := (b.next + i) % podOffsets
		if at >= len(b.names) {
			b.names = append(b.names, make([]string, at+1-len(b.names))...)
		}
		if b.names[at] == "" {
			b.names[at] = name
			b.next = at + 1
			b.n++
			return firstPodOffset + at
		}
	}
	panic(fmt.Sprintf("overlay: no free address among %d pods", b.n)) // MaxPods is smaller than podOffsets
}

// AddPod starts a pod on a node and gives it an address of the node's pod block
// in every family, at the same offset: ascending from .2 (IPv6 ::2), and from
// the beginning again once .254 has been used. The order is our choice; Azure
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
		return Pod{}, fmt.Errorf("node %q: %w", node, flow.ErrUnknownName)
	case name == "":
		return Pod{}, fmt.Errorf("pod name %q: %w", name, flow.ErrMissing)
	}
	block := &p.blocks[n]
	if _, ok := p.byName[name]; ok {
		return Pod{}, fmt.Errorf("pod %q: %w", name, flow.ErrDuplicateName)
	}
	if block.cordoned {
		return Pod{}, fmt.Errorf("pod %q: %w: node %s", name, ErrCordoned, node)
	}
	if limit := s.byIndex[n].MaxPods; block.n >= limit {
		return Pod{}, fmt.Errorf("pod %q: %w: node %s runs its MaxPods of %d", name, ErrTooManyPods, node, limit)
	}
	if len(p.byName) >= MaxPodsPerCluster {
		return Pod{}, fmt.Errorf("pod %q: %w: the cluster runs %d", name, ErrTooManyPods, MaxPodsPerCluster)
	}
	at := podPlace{n, block.take(name)}
	p.byName[name] = at
	if s.strict {
		s.live[n][at.offset/64].Or(1 << (at.offset % 64))
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
	at, ok := p.byName[name]
	if !ok {
		return fmt.Errorf("pod %q: %w", name, flow.ErrUnknownName)
	}
	p.remove(c.state.Load(), name, at)
	return nil
}

// remove ends the pod of a name at a place. p.mu must be held.
func (p *pods) remove(s *state, name string, at podPlace) {
	delete(p.byName, name)
	p.hostPorts.release(name)
	block := &p.blocks[at.node]
	block.names[at.offset-firstPodOffset] = ""
	block.n--
	if s.strict {
		s.live[at.node][at.offset/64].And(^(1 << (at.offset % 64)))
	}
}

// leave ends all pods of a node that goes. p.mu must be held.
func (p *pods) leave(node int) {
	for _, name := range p.blocks[node].names {
		if name != "" {
			delete(p.byName, name)
			p.hostPorts.release(name)
		}
	}
	p.blocks[node] = podNames{}
}

// Pod returns the pod of that name.
func (c *Cluster) Pod(name string) (Pod, bool) {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	at, ok := c.pods.byName[name]
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
func (p *pods) at(s *state, a netip.Addr) (name string, at podPlace) {
	node, offset, ok := s.locate(a)
	if !ok || offset < firstPodOffset {
		return "", podPlace{}
	}
	names := p.blocks[node].names
	if i := offset - firstPodOffset; i < uint64(len(names)) {
		return names[i], podPlace{node, int(offset)}
	}
	return "", podPlace{}
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
			names := slices.Clone(c.pods.blocks[node].names)
			c.pods.mu.RUnlock()
			for i, name := range names {
				if name != "" && !yield(s.pod(name, podPlace{node, firstPodOffset + i})) {
					return
				}
			}
		}
	}
}

// pod describes the pod of that name at a place.
func (s *state) pod(name string, at podPlace) Pod {
	n := s.byIndex[at.node]
	p := Pod{Name: name, Node: n.Name, Addrs: make([]netip.Addr, len(n.PodBlocks))}
	for i, b := range n.PodBlocks {
		p.Addrs[i] = addrAt(b, uint64(at.offset))
	}
	return p
}
