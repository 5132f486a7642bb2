// Cordon and drain: what keeps pods away from a node before it goes or is made anew.

package overlay

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Cordon keeps further pods from a node, or lets them come again; those that it runs
// stay. The error wraps [flow.ErrUnknownName] if there is no such node.
func (c *Cluster) Cordon(node string, cordoned bool) error {
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := c.state.Load().byName[node]
	if !ok {
		return fmt.Errorf("node %q: %w", node, flow.ErrUnknownName)
	}
	p.table.Cordon(i, cordoned)
	return nil
}

// Cordoned reports whether a node takes no further pods; false if there is no such node.
func (c *Cluster) Cordoned(node string) bool {
	p := &c.pods
	p.mu.RLock()
	defer p.mu.RUnlock()
	i, ok := c.state.Load().byName[node]
	return ok && p.table.Cordoned(i)
}

// Drain cordons a node, ends all its pods, and returns them in the order of their
// addresses, for the caller to start elsewhere. As with RemovePod their flows stay until
// they expire. The error wraps [flow.ErrUnknownName] if there is no such node.
func (c *Cluster) Drain(node string) ([]Pod, error) {
	defer c.withdraw()
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	s := c.state.Load()
	i, ok := s.byName[node]
	if !ok {
		return nil, fmt.Errorf("node %q: %w", node, flow.ErrUnknownName)
	}
	var pods []Pod
	for _, name := range p.table.Names(i) {
		if at, ok := p.table.Of(name); ok {
			pods = append(pods, s.pod(name, at))
			p.remove(s, name)
		}
	}
	p.table.Cordon(i, true)
	return pods, nil
}
