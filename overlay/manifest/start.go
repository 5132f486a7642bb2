// Starting a cluster: nodes, pods where the scheduler would put them, Services and host ports.

package manifest

import (
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/policy"
)

// Running is a cluster that runs what the files say.
type Running struct {
	*overlay.Cluster

	Pods    []Pod     // that run, in the order of the workloads and their numbers
	Pending []Pending // that found no node
}

// Pod is a pod that runs.
type Pod struct {
	Name        string             // "namespace/name"; of a workload's pods its name and a number
	Node        string             // its name
	HostNetwork bool               // it has the address of its node, and overlay knows no pod of the name
	HostPorts   []overlay.HostPort // ports of the node that lead to it
	workload    *Workload
}

// Pending is a pod that found no node.
type Pending struct {
	Pod    string // as Pod.Name
	Reason string // why no node may run it, in words
}

// Start makes the cluster and starts everything at now. The caller closes it.
//
// Pods are placed one after the other, in the order of the files. A pod goes to the node that
// runs the fewest of its workload, of these to the one that runs the fewest pods, and of
// these to the one of the lowest index. It is not placed on a node whose pool has a taint
// that it does not tolerate or lacks a label that it selects, on one that runs its MaxPods, and on one
// where a port that it wants is another's. That is what the scheduler of Kubernetes does by
// default where all pods and nodes are of one size and one zone; resources that pods ask
// for, affinity and zones are not looked at. A pod with a node's name runs there.
// A DaemonSet runs on each node where its pods may. Pods for which there is no node are
// Pending, as in Kubernetes.
//
// The ready pods of a Service are all that its selector finds; of one without selector they are the
// endpoints that files name, as far as they run. NetworkPolicies are asked about the
// pods that Start starts, and about no others. Services of load balancers get
// their first connections once [overlay.Cluster.Advance] has made the probes.
//
// The error joins what Read could not foresee, each problem with file, line and field; nothing runs then.
// It is about clusters of more than 20,000 nodes times Services, of which Read tries a part, about
// host ports that are used up, and about a Config that has been changed since.
func (c *Cluster) Start(now flow.Time) (*Running, error) {
	config, rules := c.Config, c.policies.compile(c.Workloads, c.Config.NetworkPolicyEngine)
	if rules != nil {
		enforce(&config, rules)
	}
	cluster, err := overlay.New(config)
	if err != nil {
		var l problems.List
		relocate(findings{&l, false}, err, c.sources.at)
		return nil, l.Err()
	}
	s := scheduler{Running: &Running{Cluster: cluster}, pools: make(map[string]*pool), rules: rules}
	for i := range c.pools {
		s.pools[c.pools[i].Name] = &c.pools[i]
	}
	for _, n := range cluster.Nodes() {
		if s.pools[n.Pool] == nil { // Config has got it after Read
			s.pools[n.Pool] = &pool{Name: n.Pool}
			for i := range c.Config.NodePools {
				if p := &c.Config.NodePools[i]; p.Name == n.Pool {
					s.pools[n.Pool].follow(p)
				}
			}
		}
		if rules != nil {
			rules.BindNode(n.Addrs, n.Index)
		}
		s.nodes = append(s.nodes, &place{Node: n, pool: s.pools[n.Pool], ports: make(map[hostPort]bool)})
	}
	for i := range c.Workloads {
		s.run(i, &c.Workloads[i])
	}
	c.serve(findings{&s.problems, false}, cluster, now)
	for i := range c.Services {
		if s.problems.Len() == 0 {
			s.serve(&c.Services[i])
		}
	}
	if err := s.problems.Err(); err != nil {
		cluster.Close()
		return nil, err
	}
	return s.Running, nil
}

// scheduler places pods.
type scheduler struct {
	*Running
	pools    map[string]*pool
	nodes    []*place      // by index
	rules    *policy.Rules // nil if there are none
	group    int           // of the workload under way
	problems problems.List
}

// place is a node and what runs there.
type place struct {
	overlay.Node
	pool  *pool
	pods  int
	own   int // of the workload under way
	ports map[hostPort]bool
}

// hostPort is a port of a node.
type hostPort overlay.ContainerPort

// run starts the pods of the i-th workload.
func (s *scheduler) run(i int, w *Workload) {
	s.group = i
	var queue places
	why := ""
	for _, n := range s.nodes {
		n.own = 0
		if reason := n.refuses(w); reason != "" {
			why = reason
			continue
		}
		queue = append(queue, n)
	}
	if w.EveryNode {
		for _, n := range queue {
			s.start(w, w.prefix+"-"+n.Name, n)
		}
		return
	}
	heap.Init(&queue)
	for i := range w.Replicas {
		for len(queue) > 0 && queue[0].full(w) != "" {
			why = queue[0].full(w)
			heap.Pop(&queue)
		}
		if len(queue) == 0 {
			s.Pending = append(s.Pending, Pending{w.podName(i), why})
			continue
		}
		s.start(w, w.podName(i), queue[0])
		heap.Fix(&queue, 0)
	}
}

// start starts a pod on a node.
func (s *scheduler) start(w *Workload, name string, n *place) {
	p := Pod{Name: name, Node: n.Name, HostNetwork: w.HostNetwork, workload: w}
	ports := w.hostPorts()
	for _, port := range ports {
		n.ports[portOf(port)] = true
	}
	n.pods++
	n.own++
	if !w.HostNetwork {
		pod, err := s.AddPod(n.Name, name)
		if err != nil {
			s.problems.Include(w.at.place().String(), err)
			return
		}
		if w.StaticGateway != "" {
			if err := s.UseStaticGateway(name, w.Namespace+"/"+w.StaticGateway); err != nil {
				s.problems.Include(w.annotation(overlay.StaticGatewayAnnotation).String(), err)
			}
		}
		if s.rules != nil {
			s.rules.Bind(pod.Addrs, s.group, n.Index)
		}
		if len(ports) > 0 || w.HostPortAnnotation != "" {
			var err error
			if p.HostPorts, err = s.OpenHostPorts(name, w.Name, w.containerPorts(), w.HostPortAnnotation); err != nil {
				s.problems.Include(w.at.place().String(), err)
			}
		}
	}
	for _, port := range p.HostPorts {
		n.ports[portOf(port.ContainerPort)] = true
	}
	s.Pods = append(s.Pods, p)
}

// portOf returns the port of a node that leads to a port of a pod.
func portOf(p overlay.ContainerPort) hostPort {
	return hostPort{Protocol: p.Protocol, HostPort: p.HostPort}
}

// serve gives a Service its endpoints.
func (s *scheduler) serve(v *Service) {
	endpoints := v.outside()
	for _, e := range v.servers {
		if _, ok := s.Pod(e.Pod); e.Pod != "" && ok {
			endpoints = append(endpoints, e.Endpoint)
		}
	}
	node := make(map[string]bool)
	for i := range s.Pods {
		p := &s.Pods[i]
		switch {
		case len(v.Selector) == 0:
		case p.workload.Namespace != v.Namespace || !matches(v.Selector, p.workload.Labels):
		case !p.HostNetwork:
			endpoints = append(endpoints, overlay.Endpoint{Pod: p.Name})
		case !node[p.Node]:
			node[p.Node] = true
			endpoints = append(endpoints, overlay.Endpoint{Node: p.Node})
		}
	}
	if len(endpoints) == 0 {
		return
	}
	if err := s.SetEndpoints(v.Name, endpoints...); err != nil {
		s.problems.Include(v.at.place().String(), err)
	}
}

// refuses says why no pod of a workload may run on a node; "" if one may.
func (p *place) refuses(w *Workload) string {
	if w.NodeName != "" {
		if w.NodeName != p.Name {
			return fmt.Sprintf("there is no node %s", w.NodeName)
		}
		return ""
	}
	if p.pool.gateway {
		return fmt.Sprintf("nodes of pool %s are gateways", p.Pool)
	}
	for _, t := range p.pool.taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(w, t) {
			return fmt.Sprintf("pool %s has the taint %s=%s:%s", p.Pool, t.Key, t.Value, t.Effect)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.NodeSelector)) {
		if value := w.NodeSelector[key]; !p.hasLabel(key, value) {
			return fmt.Sprintf("pool %s has no label %s=%s", p.Pool, key, value)
		}
	}
	return p.full(w)
}

// full says why a node has no room for another pod; "" if it has.
func (p *place) full(w *Workload) string {
	if p.pods >= p.MaxPods {
		return fmt.Sprintf("nodes run their %d pods", p.MaxPods)
	}
	for _, port := range w.hostPorts() {
		if p.ports[portOf(port)] {
			return fmt.Sprintf("port %d of nodes is taken", port.HostPort)
		}
	}
	return ""
}

// tolerates reports whether the pods of a workload tolerate a taint. A DaemonSet's tolerate those that
// say how a node is.
func tolerates(w *Workload, t corev1.Taint) bool {
	if w.EveryNode && strings.HasPrefix(t.Key, "node.kubernetes.io/") {
		return true
	}
	return slices.ContainsFunc(w.Tolerations, func(o corev1.Toleration) bool {
		if o.Effect != "" && o.Effect != t.Effect || o.Key != "" && o.Key != t.Key {
			return false
		}
		if o.Operator == corev1.TolerationOpExists {
			return true
		}
		return o.Key != "" && o.Value == t.Value
	})
}

// places is a heap of nodes, the one for the next pod first.
type places []*place

func (p places) Len() int      { return len(p) }
func (p places) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p places) Less(i, j int) bool {
	a, b := p[i], p[j]
	switch {
	case a.own != b.own:
		return a.own < b.own
	case a.pods != b.pods:
		return a.pods < b.pods
	}
	return a.Index < b.Index
}

// Push adds a node.
func (p *places) Push(x any) { *p = append(*p, x.(*place)) }

// Pop removes the last node.
func (p *places) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}
