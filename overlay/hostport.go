// Host ports of pods: the ports of a node that lead to a pod on it. Read "Use instance-level
// public IPs in AKS" first.

package overlay

import (
	"fmt"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/hostports"
	"github.com/seed-a61be3fe/natplane/overlay/internal/portmap"
	"github.com/seed-a61be3fe/natplane/snat"
)

// HostPortAnnotation is the annotation of a pod whose value lists the container ports that
// AKS picks host ports for.
const HostPortAnnotation = hostports.Annotation

// ErrHostPortsExhausted marks a request for more automatic host ports than are free.
var ErrHostPortsExhausted = hostports.ErrExhausted

// ContainerPort is a port of a pod's specification.
type ContainerPort struct {
	Protocol snat.Protocol // TCP or UDP
	Port     uint16        // where the pod listens, 1..65535
	HostPort uint16        // of its node; 0 is none
}

// HostPort is a port of a node that leads to a pod on it.
type HostPort struct {
	ContainerPort

	Automatic bool // AKS has picked it

	// Variable is the environment variable that tells the pod an automatic port, such as
	// "web_PORT_8080_TCP_HOSTPORT"; "" for others.
	Variable string
}

// OpenHostPorts gives a running pod its host ports: those that ports, its specification,
// name, and those that annotation, the value of [HostPortAnnotation] or "", asks for. The
// latter are out of 40000 to 59999, and each is given once in the cluster, whatever the
// protocol. They stay until the pod goes. deployment is its name, for the variables. A port of a node is
// one pod's; another pod that wants it has to run on another node.
//
// From then on packets for an address of the node and a host port go to the pod,
// with their source, and so do those for the node's public address, if AllowedHostPorts
// lets them in; answers come from the node. It is the portmap plugin of the node that does
// it; here the stage of Services does. A pod or node of the cluster gets to the pod without
// leaving by its own node's address first, which is our simplification.
//
// The error joins all problems: it wraps [flow.ErrUnknownName] (the pod, or a port of the
// annotation), [flow.ErrDuplicateName] (the pod has host ports, or a port stands twice),
// [flow.ErrOutOfRange], [flow.ErrSyntax], [flow.ErrConflict] (another pod of the node has
// the port, or it is a node port of a Service), [flow.ErrClosed] or [ErrHostPortsExhausted], and then
// nothing has changed. Cost: O(ports of the pod), on average, and O(Services) for ports that may be
// node ports.
func (c *Cluster) OpenHostPorts(pod, deployment string, ports []ContainerPort, annotation string) ([]HostPort, error) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.closed.Load() {
		return nil, fmt.Errorf("pod %q: %w", pod, flow.ErrClosed)
	}
	place, ok := p.table.Of(pod)
	if !ok {
		return nil, fmt.Errorf("pod %q: %w", pod, flow.ErrUnknownName)
	}
	h := &p.hostPorts
	if len(h.Of(pod)) > 0 {
		return nil, fmt.Errorf("pod %q: it has host ports: %w", pod, flow.ErrDuplicateName)
	}
	s := c.state.Load()
	at := s.pod(pod, place)
	named := containerPorts(ports)
	automatic, err := hostports.Check(named, annotation)
	if err == nil {
		err = c.services.leave(ports)
	}
	if err == nil {
		node := s.byIndex[place.Node]
		err = h.Open(&portmap.Pod{Name: pod, Addrs: at.Addrs, Node: node.Name, Index: node.Index, NodeAddrs: node.Addrs}, deployment, named, automatic)
	}
	if err != nil {
		return nil, fmt.Errorf("pod %q: %w", pod, err)
	}
	return p.hostPortsOf(pod), nil
}

// leave reports which host ports are node ports of Services. s.mu must be held.
func (s *services) leave(ports []ContainerPort) error {
	var l problems.List
	for i, cp := range ports {
		if cp.HostPort < firstNodePort || cp.HostPort > lastNodePort {
			continue
		}
		for _, e := range s.all() {
			if slices.ContainsFunc(e.nodePorts(), func(p namedPort) bool { return p.nodePort == nodePort{Protocol: cp.Protocol, Number: cp.HostPort} }) {
				l.Add(problems.Index("Ports", i)+".HostPort", cp.HostPort, flow.ErrConflict, "it is a node port of Service %q", e.Name)
			}
		}
	}
	return l.Err()
}

// containerPorts are ports of a specification as the inventory has them.
func containerPorts(ports []ContainerPort) []hostports.Named {
	all := make([]hostports.Named, len(ports))
	for i, cp := range ports {
		all[i] = hostports.Named{Container: hostports.Port{Number: cp.Port, Protocol: cp.Protocol.Number()}, Host: cp.HostPort}
	}
	return all
}

// hostPortsOf describes the host ports of a pod. p.mu must be held.
func (p *pods) hostPortsOf(pod string) (all []HostPort) {
	for _, b := range p.hostPorts.Of(pod) {
		of := ContainerPort{snat.ProtocolOf(b.Host.Protocol), b.Container.Number, b.Host.Number}
		all = append(all, HostPort{Automatic: b.Automatic, ContainerPort: of, Variable: p.hostPorts.Variable(pod, b)})
	}
	return all
}

// HostPorts returns the host ports of a pod; none if there is no such pod.
func (c *Cluster) HostPorts(pod string) []HostPort {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	return c.pods.hostPortsOf(pod)
}

// HostPortsFree returns how many automatic host ports are left, of 20,000.
func (c *Cluster) HostPortsFree() int {
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	return c.pods.hostPorts.Free()
}
