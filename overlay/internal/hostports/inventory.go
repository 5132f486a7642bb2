// The inventory: who has which host port.

package hostports

import (
	"errors"
	"iter"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// The ports that are picked.
const (
	First, Last = 40000, 59999
	count       = Last - First + 1
)

// ErrExhausted marks a request for more automatic host ports than are free.
var ErrExhausted = errors.New("automatic host ports exhausted")

// Binding is a host port of a pod.
type Binding struct {
	Host, Container Port // of one protocol
	Automatic       bool // it has been picked
}

// at is a host port of a node.
type at struct {
	node string
	Port
}

// Inventory is which pod has which host ports. The zero value has none. It is for one
// goroutine at a time.
type Inventory struct {
	byPod  map[string]owned
	byNode map[at]string  // pod
	uses   map[uint16]int // bindings of a number anywhere in the cluster, while there are any
	inUse  int            // numbers of First to Last with uses
	next   int            // less First: where to look first, past the one picked last
}

// owned is the host ports of a pod and the node that they are of.
type owned struct {
	node string
	all  []Binding
}

// Free returns how many ports are left to pick.
func (v *Inventory) Free() int { return count - v.inUse }

// Assign picks a host port for each of the container ports of a pod on a node: ascending,
// past the one picked last, so that a port rests as long as possible before it is
// given again (our choice). All get one or none: the error wraps [ErrExhausted].
func (v *Inventory) Assign(node, pod string, ports []Port) ([]Binding, error) {
	if len(ports) > v.Free() {
		return nil, problems.New(Annotation, len(ports), ErrExhausted, "%d of the %d ports %d..%d are free", v.Free(), count, First, Last)
	}
	var all []Binding
	for _, p := range ports {
		for v.uses[uint16(First+v.next)] > 0 {
			v.next = (v.next + 1) % count
		}
		b := Binding{Host: Port{uint16(First + v.next), p.Protocol}, Container: p, Automatic: true}
		v.put(node, pod, b)
		all = append(all, b)
		v.next = (v.next + 1) % count
	}
	return all, nil
}

// Bind gives a pod on a node the host port that its specification names. The error wraps
// [flow.ErrConflict] if a pod has it on that node already, and says which.
func (v *Inventory) Bind(node, pod string, host uint16, container Port) error {
	b := Binding{Host: Port{host, container.Protocol}, Container: container}
	if other, ok := v.byNode[at{node, b.Host}]; ok {
		return problems.New("hostPort", b.Host, flow.ErrConflict, "pod %s has it on node %s", other, node)
	}
	v.put(node, pod, b)
	return nil
}

// put notes a binding that is free.
func (v *Inventory) put(node, pod string, b Binding) {
	if v.byPod == nil {
		v.byPod, v.byNode, v.uses = make(map[string]owned), make(map[at]string), make(map[uint16]int)
	}
	v.byNode[at{node, b.Host}] = pod
	if v.uses[b.Host.Number]++; v.uses[b.Host.Number] == 1 && First <= b.Host.Number && b.Host.Number <= Last {
		v.inUse++
	}
	o := v.byPod[pod]
	v.byPod[pod] = owned{node, append(o.all, b)}
}

// Release gives back all host ports of a pod.
func (v *Inventory) Release(pod string) {
	o := v.byPod[pod]
	for _, b := range o.all {
		n := b.Host.Number
		delete(v.byNode, at{o.node, b.Host})
		if v.uses[n]--; v.uses[n] > 0 {
			continue
		}
		delete(v.uses, n)
		if First <= n && n <= Last {
			v.inUse--
		}
	}
	delete(v.byPod, pod)
}

// Of returns the host ports of a pod in the order in which it got them, a copy.
func (v *Inventory) Of(pod string) []Binding { return slices.Clone(v.byPod[pod].all) }

// Bindings iterates over pods and the ports of nodes that they have, in no order.
func (v *Inventory) Bindings() iter.Seq2[string, Port] {
	return func(yield func(string, Port) bool) {
		for at, pod := range v.byNode {
			if !yield(pod, at.Port) {
				return
			}
		}
	}
}

// Lookup returns the pod that has a host port of a node, and the container port there.
func (v *Inventory) Lookup(node string, host Port) (pod string, container Port, ok bool) {
	if pod, ok = v.byNode[at{node, host}]; !ok {
		return "", Port{}, false
	}
	all := v.byPod[pod].all
	i := slices.IndexFunc(all, func(b Binding) bool { return b.Host == host })
	return pod, all[i].Container, true
}

// Take takes the ports that a specification names, and picks those that are automatic, or reports
// why not; then some may be taken.
func (v *Inventory) Take(node, pod string, named []Named, automatic []Port) error {
	var errs []error
	for _, p := range named {
		if p.Host != 0 {
			errs = append(errs, v.Bind(node, pod, p.Host, p.Container))
		}
	}
	_, err := v.Assign(node, pod, automatic)
	return errors.Join(append(errs, err)...)
}
