// Package portmap delivers what comes to the host ports of pods: it is the portmap plugin of nodes, by the
// stage that Services have.
//
// A Delivery has no lock: its owner guards it, and the proxy has its own. It refuses to know which ports
// a pod asks for, which package hostports does, and who may send there.
package portmap

import (
	"maps"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay/internal/hostports"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
)

// Prefix begins the name of what delivers to the host ports of a pod, and so no Service may have such a
// name.
const Prefix = "hostPort:"

// Delivery is who has which host ports, and what delivers packets to them. Proxy is the owner's to set.
type Delivery struct {
	hostports.Inventory
	Proxy *kubeproxy.Proxy

	deployments map[string]string // by pod that has automatic ones
}

// Pod is a pod on its node.
type Pod struct {
	Name  string
	Addrs []netip.Addr

	Node      string
	Index     int // of the node
	NodeAddrs []netip.Addr
}

// Open gives a pod that has none its host ports, those that are named and those that are automatic, and
// lets packets for them reach it. After an error it has none.
func (d *Delivery) Open(p *Pod, deployment string, named []hostports.Named, automatic []hostports.Port) error {
	err := d.Take(p.Node, p.Name, named, automatic)
	if err == nil {
		err = d.deliver(p)
	}
	if err != nil {
		d.Release(p.Name)
		return err
	}
	if len(automatic) > 0 {
		if d.deployments == nil {
			d.deployments = make(map[string]string)
		}
		d.deployments[p.Name] = deployment
	}
	return nil
}

// deliver lets packets for the host ports of a pod reach it.
func (d *Delivery) deliver(p *Pod) error {
	all := d.Of(p.Name)
	if len(all) == 0 {
		return nil
	}
	service := kubeproxy.Service{Name: Prefix + p.Name, LoadBalancerIPs: p.NodeAddrs, OfNode: true, ExternalLocal: true}
	var to []uint16
	for _, b := range all {
		service.Ports = append(service.Ports, kubeproxy.Port{Name: b.Host.String(), Protocol: b.Host.Protocol, Port: b.Host.Number})
		to = append(to, b.Container.Number)
	}
	if err := d.Proxy.SetService(service); err != nil {
		return err
	}
	var endpoints []kubeproxy.Endpoint
	for _, a := range p.Addrs {
		endpoints = append(endpoints, kubeproxy.Endpoint{Addr: a, Node: p.Index, Ports: to})
	}
	return d.Proxy.SetEndpoints(service.Name, endpoints)
}

// Release gives back the host ports of a pod.
func (d *Delivery) Release(pod string) {
	if len(d.Of(pod)) == 0 {
		return
	}
	d.Proxy.RemoveService(Prefix + pod)
	d.Inventory.Release(pod)
	delete(d.deployments, pod)
}

// Variable returns the environment variable that tells a pod of a binding of its own, "" if it is not
// automatic.
func (d *Delivery) Variable(pod string, b hostports.Binding) string {
	if !b.Automatic {
		return ""
	}
	return hostports.Variable(d.deployments[pod], b.Container)
}

// Fork returns a copy that delivers by another proxy, which is a copy, too.
func (d *Delivery) Fork(proxy *kubeproxy.Proxy) Delivery {
	return Delivery{d.Inventory.Fork(), proxy, maps.Clone(d.deployments)}
}

// Archive writes d, or reads it, which has no host ports then; see [hostports.Inventory.Archive]. What the
// proxy has is not part of it.
func (d *Delivery) Archive(a *snapshot.Archive, nodeOf func(pod string) string) {
	d.Inventory.Archive(a, nodeOf)
	snapshot.Map(a, &d.deployments, 1<<24, func(deployment *string) { a.Text(deployment, 1<<20) })
}
