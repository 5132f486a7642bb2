// Pods: the addresses of a node's pod block and who has them.

package overlay

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

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

	// live has a bit per node and offset, set while a pod has the address. It
	// is nil unless packets are checked against it, which takes no lock.
	live [][podOffsetWords]atomic.Uint64
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
// cluster), and leave everything as it was.
func (c *Cluster) AddPod(node, name string) (Pod, error) {
	n, ok := c.byName[node]
	switch {
	case !ok:
		return Pod{}, fmt.Errorf("node %q: %w", node, flow.ErrUnknownName)
	case name == "":
		return Pod{}, fmt.Errorf("pod name %q: %w", name, flow.ErrMissing)
	}
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	block := &p.blocks[n]
	if _, ok := p.byName[name]; ok {
		return Pod{}, fmt.Errorf("pod %q: %w", name, flow.ErrDuplicateName)
	}
	if limit := c.nodes[n].MaxPods; block.n >= limit {
		return Pod{}, fmt.Errorf("pod %q: %w: node %s runs its MaxPods of %d", name, ErrTooManyPods, node, limit)
	}
	if len(p.byName) >= MaxPodsPerCluster {
		return Pod{}, fmt.Errorf("pod %q: %w: the cluster runs %d", name, ErrTooManyPods, MaxPodsPerCluster)
	}
	at := podPlace{n, block.take(name)}
	p.byName[name] = at
	if p.live != nil {
		p.live[n][at.offset/64].Or(1 << (at.offset % 64))
	}
	return c.pod(name, at), nil
}

// RemovePod ends a pod and frees its addresses. Its flows stay until they
// expire, as they do on a node whose pod is gone. The error wraps
// [flow.ErrUnknownName] if there is no such pod.
func (c *Cluster) RemovePod(name string) error {
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.byName[name]
	if !ok {
		return fmt.Errorf("pod %q: %w", name, flow.ErrUnknownName)
	}
	delete(p.byName, name)
	block := &p.blocks[at.node]
	block.names[at.offset-firstPodOffset] = ""
	block.n--
	if p.live != nil {
		p.live[at.node][at.offset/64].And(^(1 << (at.offset % 64)))
	}
	return nil
}

// Pod returns the pod of that name.
func (c *Cluster) Pod(name string) (Pod, bool) {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	at, ok := c.pods.byName[name]
	if !ok {
		return Pod{}, false
	}
	return c.pod(name, at), true
}

// PodByAddr returns the pod that has the address now. Together with the inside
// address of a flow it tells whose flow that is.
func (c *Cluster) PodByAddr(a netip.Addr) (Pod, bool) {
	name, at := c.podAt(a)
	if name == "" {
		return Pod{}, false
	}
	return c.pod(name, at), true
}

// podAt returns the name of the pod that has the address now, or "", and its place.
func (c *Cluster) podAt(a netip.Addr) (name string, at podPlace) {
	node, offset, ok := c.locate(a)
	if !ok || offset < firstPodOffset {
		return "", podPlace{}
	}
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	names := c.pods.blocks[node].names
	if i := offset - firstPodOffset; i < uint64(len(names)) {
		return names[i], podPlace{node, int(offset)}
	}
	return "", podPlace{}
}

// Pods iterates over the pods, node by node and by ascending address. Pods that
// come or go meanwhile may or may not appear.
func (c *Cluster) Pods() iter.Seq[Pod] {
	return func(yield func(Pod) bool) {
		for node := range c.nodes {
			c.pods.mu.RLock()
			names := slices.Clone(c.pods.blocks[node].names)
			c.pods.mu.RUnlock()
			for i, name := range names {
				if name != "" && !yield(c.pod(name, podPlace{node, firstPodOffset + i})) {
					return
				}
			}
		}
	}
}

// pod describes the pod of that name at a place.
func (c *Cluster) pod(name string, at podPlace) Pod {
	n := &c.nodes[at.node]
	p := Pod{Name: name, Node: n.Name, Addrs: make([]netip.Addr, len(n.PodBlocks))}
	for i, b := range n.PodBlocks {
		p.Addrs[i] = addrAt(b, uint64(at.offset))
	}
	return p
}

// locate returns the node whose pod block contains a, and the offset there.
func (c *Cluster) locate(a netip.Addr) (node int, offset uint64, ok bool) {
	for _, cidr := range c.podCIDRs {
		if !cidr.Contains(a) {
			continue
		}
		hostBits := a.BitLen() - podBlockBits[familyOf(a)]
		o, ok := offsetOf(cidr, a)
		i := o >> hostBits
		if !ok || i >= uint64(len(c.nodes)) {
			return 0, 0, false
		}
		return int(i), o & (1<<hostBits - 1), true
	}
	return 0, 0, false
}
