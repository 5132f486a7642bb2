// The last look: whether overlay takes what has been read. Its problems are told by where
// the fields stand in the files.

package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

// pair gives every pool of the configuration its name, and its labels and taints.
func (r *reader) pair() {
	c := r.cluster
	known := c.pools
	c.pools = make([]pool, len(c.Config.NodePools))
	for i := range c.Config.NodePools {
		p := &c.Config.NodePools[i]
		if p.Name == "" {
			p.Name = fmt.Sprintf("nodepool%d", i+1)
		}
		c.pools[i].Name = p.Name
		if j := slices.IndexFunc(known, func(q pool) bool { return q.Name == p.Name }); j >= 0 {
			c.pools[i] = known[j]
		}
		c.pools[i].follow(p)
	}
}

// maxTrial is how many nodes times Services are tried in any case. Of a larger cluster a smaller one, of a
// node for each pool, is tried first, and all of it only if something is wrong with that: Start tells
// the rest. Our choice.
const maxTrial = 20_000

// try asks overlay about the configuration, and then about Services and host ports. Where part of what
// describes the cluster could not be read, or the cluster cannot be, only what is wrong in any case is told of
// the rest.
func (r *reader) try() {
	c := r.cluster
	to := findings{&r.problems, r.lost}
	if err := c.Config.Validate(); err != nil {
		relocate(to, err, r.at)
		r.run(standIn(&c.Config), findings{&r.problems, true})
		return
	}
	nodes := 0
	for _, p := range c.Config.NodePools {
		nodes += p.Count
	}
	if nodes*(1+len(c.Services)) <= maxTrial {
		r.run(c.Config, to)
		return
	}
	r.keepStatusAddresses(nil)
	few := c.Config
	few.NodePools = slices.Clone(few.NodePools)
	for i := range few.NodePools {
		p := &few.NodePools[i]
		p.Count, p.MinCount, p.MaxCount, p.MaxSurge = 1, 0, 0, "1"
	}
	var wrong problems.List
	r.run(few, findings{&wrong, r.lost})
	if wrong.Len() > 0 {
		r.run(c.Config, to)
	}
}

// standIn returns a configuration for a cluster that cannot be: one of a node, as like as possible.
func standIn(c *overlay.ClusterConfig) overlay.ClusterConfig {
	least := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}}
	like := least
	like.IPFamilies, like.NetworkPlugin, like.LoadBalancerSKU = c.IPFamilies, c.NetworkPlugin, c.LoadBalancerSKU
	if like.Validate() != nil {
		return least
	}
	return like
}

// run tries Services and host ports in a cluster of a configuration.
func (r *reader) run(config overlay.ClusterConfig, to findings) {
	running, err := overlay.New(config)
	if err != nil {
		relocate(to, err, r.at)
		return
	}
	defer running.Close()
	if !to.certain {
		r.keepStatusAddresses(running)
	}
	r.cluster.serve(to, running, flow.At(0))
	nodes := running.Nodes()
	i := slices.IndexFunc(nodes, func(n overlay.Node) bool { // one that runs pods
		return !slices.ContainsFunc(r.cluster.pools, func(p pool) bool { return p.Name == n.Pool && p.gateway })
	})
	if i < 0 {
		return
	}
	for j := range r.cluster.Workloads {
		r.cluster.Workloads[j].tryHostPorts(to, running, nodes[i].Name)
	}
}

// serve makes the Services: all together, and one by one if they are refused, to tell whose the problems are.
func (c *Cluster) serve(to findings, running *overlay.Cluster, now flow.Time) {
	all := make([]overlay.Service, len(c.Services))
	for i := range all {
		all[i] = c.Services[i].Service
	}
	_, err := running.AddServices(now, all...)
	if err == nil {
		for i := range c.Services {
			c.Services[i].tryEndpoints(to, running)
		}
		return
	}
	before := to.Len()
	for i := range c.Services {
		s := &c.Services[i]
		_, err := running.AddService(now, s.Service)
		relocate(to, unwrapped(err), func(golang, value string) decode.Place {
			if golang == "" {
				return s.at.place()
			}
			return s.at.place(s.written(golang, value)...)
		})
	}
	if to.Len() == before { // one by one they are right
		relocate(to, err, c.sources.at)
	}
}

// unwrapped takes the name of the Service off an error of AddService.
func unwrapped(err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "Service ") {
		return inner
	}
	return err
}

// tryHostPorts opens the host ports of a workload on a node and closes them again.
func (w *Workload) tryHostPorts(to findings, c *overlay.Cluster, node string) {
	if w.HostNetwork || len(w.hostPorts()) == 0 && w.HostPortAnnotation == "" {
		return
	}
	if _, err := c.AddPod(node, "trial"); err != nil {
		to.Include(w.at.place().String(), err)
		return
	}
	_, err := c.OpenHostPorts("trial", w.Name, w.containerPorts(), w.HostPortAnnotation)
	relocate(to, err, func(golang, _ string) decode.Place {
		if w.HostPortAnnotation != "" && !strings.HasPrefix(golang, "ports") && !strings.HasPrefix(golang, "Ports") {
			return w.annotation(overlay.HostPortAnnotation)
		}
		return w.at.place(append(slices.Clone(w.pod), "containers")...)
	})
	if err := c.RemovePod("trial"); err != nil {
		to.Include(w.at.place().String(), err)
	}
}

// annotation returns where an annotation of the pods stands.
func (w *Workload) annotation(key string) decode.Place {
	steps := append(slices.Clone(w.pod[:len(w.pod)-1]), "metadata", "annotations", key)
	return w.at.place(steps...)
}

// hostPorts returns the ports that are open at the node.
func (w *Workload) hostPorts() (ports []overlay.ContainerPort) {
	for _, p := range w.Ports {
		if w.HostNetwork {
			p.HostPort = p.Port
		}
		if p.HostPort != 0 {
			ports = append(ports, p.ContainerPort)
		}
	}
	return ports
}

// containerPorts returns all ports, as overlay takes them.
func (w *Workload) containerPorts() []overlay.ContainerPort {
	ports := make([]overlay.ContainerPort, len(w.Ports))
	for i, p := range w.Ports {
		ports[i] = p.ContainerPort
	}
	return ports
}
