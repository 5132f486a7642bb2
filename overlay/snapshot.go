// Snapshots: a running cluster, written to a stream, and made again from that. What the configuration does
// not say comes first: nodes, Services, pods. The egress follows, what nodes do themselves,
// the proxies, and at the end what is counted; all but the first part are of one moment, and the first
// cannot change until then.

package overlay

import (
	"fmt"
	"io"
	"maps"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
	"github.com/seed-a61be3fe/natplane/snat"
)

const (
	snapshotVersion = 1
	maxElements     = 1 << 24
)

// kinds of the archives of a cluster, in the order of the stream; translators lie between them.
const (
	kindCluster = "overlay.Cluster"
	kindProxies = "overlay proxies"
	kindCounts  = "overlay counts"
)

// Snapshot writes c to w as it is at one moment, such that [Restore] makes a cluster of it that goes on as
// c would, byte for byte: nodes, pods, Services with their endpoints and what probes have found, host
// ports, static egress gateways, and all flows. All who use c wait meanwhile, also for w. See
// [snat.NAT.Snapshot] for what else is promised, for errors and cost. An upgrade that goes on has a
// Snapshot of its own, see package upgrade.
func (c *Cluster) Snapshot(w io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	s := c.state.Load()
	a := snapshot.NewWriter(w, kindCluster, snapshotVersion)
	a.Config(&s.given, "Shards", "HashKey")
	s.Fleet.Archive(a)
	s.archiveExtra(a)
	c.services.archive(a)
	c.pods.archive(a, s)
	ever := s.gateways != nil
	a.Bool(&ever)
	c.gateways.Archive(a)
	if err := a.Close(); err != nil {
		return err
	}
	return c.egress.SnapshotWith(w, func() error {
		return c.nodes.SnapshotWith(w, func() error {
			a := snapshot.NewWriter(w, kindProxies, snapshotVersion)
			c.proxy.Write(a)
			if err := a.Close(); err != nil {
				return err
			}
			return c.gateways.SnapshotWith(w, func() error {
				a := snapshot.NewWriter(w, kindCounts, snapshotVersion)
				c.archiveCounts(a, s)
				return a.Close()
			})
		})
	})
}

// Restore returns the cluster that r has a snapshot of, which goes on as the one that wrote it would. cfg
// is the configuration that was in force then, as [Cluster.Config] returns it; its functions take the
// place of those that there were, and Shards may be another number. r is read to the end of the snapshot
// and no further. Errors are those of cfg and of [snat.Restore]; then there is nothing.
func Restore(cfg ClusterConfig, r io.Reader) (*Cluster, error) {
	c := new(Cluster)
	if err := c.restore(cfg.clone(), r); err != nil {
		c.abandon()
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	return c, nil
}

// abandon closes what there is of a cluster that could not be restored.
func (c *Cluster) abandon() {
	if c.egress != nil {
		c.egress.Close()
	}
	if c.nodes != nil {
		c.nodes.Close()
	}
	if c.proxy != nil {
		c.proxy.Close()
	}
	c.gateways.Close()
}

// restore makes c, which is zero, what r has a snapshot of.
func (c *Cluster) restore(given ClusterConfig, r io.Reader) (err error) {
	a := snapshot.NewReader(r, kindCluster, snapshotVersion)
	exits, err := c.restoreState(a, given)
	if closed := a.Close(); closed != nil {
		return closed
	} else if err != nil {
		return err
	}
	s := c.state.Load()
	if c.egress, err = lb.RestoreEgress(s.egress, r); err != nil {
		return err
	}
	if c.nodes, err = snat.Restore(s.config.compileNodes(s.Nodes, c.admit), r); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	a = snapshot.NewReader(r, kindProxies, snapshotVersion)
	a.Check(maps.Equal(c.indexes(), s.byName), "nodes with other indexes than those that they have")
	c.proxy.Read(a)
	c.services.check(a, c.proxy)
	if err := a.Close(); err != nil {
		return err
	}
	if err := exits(r); err != nil {
		return err
	}
	a = snapshot.NewReader(r, kindCounts, snapshotVersion)
	c.archiveCounts(a, s)
	c.setState(s) // once more, for proxies
	return a.Close()
}

// restoreState reads what is no flow, and makes it the state of c. It returns what reads the exits of static
// gateways.
func (c *Cluster) restoreState(a *snapshot.Archive, given ClusterConfig) (exits func(io.Reader) error, err error) {
	a.Config(&given, "Shards", "HashKey")
	cfg := given.withDefaults()
	c.watch(&cfg)
	was := state{Fleet: new(fleet.Fleet)}
	was.Fleet.Archive(a)
	was.archiveExtra(a)
	if !a.OK() {
		return nil, nil
	}
	if err := given.validateFields(was.extra); err != nil {
		return nil, err
	}
	f := cfg.planned(was.extra).Makes(a, was.Fleet)
	c.services.init()
	if c.services.archive(a); !a.OK() {
		return nil, nil
	}
	admitted, err := newAdmission(&cfg, f.Nodes, c.services.secured())
	if err != nil {
		return nil, err
	}
	egress := cfg.compile(f.Nodes, admitted)
	asked := balance(&egress, &cfg, c.services.all(), probe.ProberFunc(c.probe))
	c.services.probes.Store(&asked)
	indexes := make(map[string]int, len(f.Nodes))
	for i := range f.Nodes {
		indexes[f.Nodes[i].Name] = f.Nodes[i].Index
	}
	s := newState(cfg, egress, admitted, f, was.extra, indexes, func(string) *podtable.Bits { return new(podtable.Bits) })
	s.given = given
	s.setMachines(nil)
	c.state.Store(s)
	c.proxy, err = kubeproxy.New(kubeproxy.Config{Shards: cfg.Shards, Seed: cfg.Seed, HashKey: cfg.HashKey, Notice: &c.proxyNotice})
	if err != nil {
		return nil, err
	}
	c.rejects.Notice, c.pods.hostPorts.Proxy = &c.proxyNotice, c.proxy
	c.pods.table = podtable.New(0)
	c.pods.archive(a, s)
	ever := false
	if a.Bool(&ever); ever {
		s.gateways = &c.gateways
	}
	return c.gateways.Restore(a, cfg.gateways(f, c.admitGateway, c.countExit)), nil
}

// archiveCounts writes or reads what is counted without a lock, and answers that wait.
func (c *Cluster) archiveCounts(a *snapshot.Archive, s *state) {
	a.Section("counts")
	raised := c.proxyNotice.Raised()
	c.rejects.Archive(a)
	if a.Bool(&raised); raised && !a.Writing() {
		c.proxyNotice.Raise()
	}
	c.serviced.Archive(a)
	for _, n := range []*atomic.Uint64{&c.spoofed, &c.stayed[0], &c.stayed[1]} {
		v := n.Load()
		if snapshot.Num(a, &v); !a.Writing() {
			n.Store(v)
		}
	}
	s.machines.Archive(a)
}

// archiveExtra writes or reads how many nodes pools have besides their Count.
func (s *state) archiveExtra(a *snapshot.Archive) {
	snapshot.Map(a, &s.extra, maxElements, func(n *int) {
		snapshot.Num(a, n)
		a.Check(*n >= 0 && *n <= MaxNodesPerPool, "%d nodes besides the Count of a pool", *n)
	})
}

// archive writes the Services, or reads them into s, which has none. s.mu must be held while it is written.
func (s *services) archive(a *snapshot.Archive) {
	a.Section("Services")
	all := s.all()
	snapshot.Slice(a, &all, maxElements, func(at **serviceEntry) {
		e := *at
		if e == nil {
			e = new(serviceEntry)
		}
		a.Value(&e.Service, maxElements, "Annotations")
		snapshot.Map(a, &e.Annotations, maxElements, func(value *string) { a.Text(value, maxElements) })
		snapshot.Slice(a, &e.addrs, maxElements, a.Addr)
		all := e.endpoints
		snapshot.Slice(a, &all, maxElements, func(ep *Endpoint) { a.Value(ep, maxElements) })
		if a.Writing() || !a.OK() {
			return
		}
		var err error
		if e.settings, err = e.read(); err != nil {
			a.Refuse("Service %q: %v", e.Name, err)
		}
		_, twice := s.byName[e.Name]
		if a.Check(!twice && e.Type < numServiceTypes && e.ExternalTrafficPolicy < numTrafficPolicies && e.InternalTrafficPolicy < numTrafficPolicies, "Service %q", e.Name) {
			*at, s.byName[e.Name], s.order = e, e, append(s.order, e.Name)
			s.setServing(e, all)
		}
	})
}

// check refuses Services that proxies do not have, and others that they have.
func (s *services) check(a *snapshot.Archive, proxy *kubeproxy.Proxy) {
	for _, e := range s.byName {
		if e.hasFrontends() && a.OK() {
			a.Check(proxy.Ports(e.Name) == len(e.Ports), "Service %q has other ports at the proxies", e.Name)
		}
	}
}

// archive writes the pods of a state's nodes, or reads them into p, which has none. p.mu must be held while
// it is written.
func (p *pods) archive(a *snapshot.Archive, s *state) {
	p.table.Archive(a, func(node int) int {
		if s.node(node) == nil {
			return 0
		}
		return s.places.Room(node)
	})
	if s.strict && !a.Writing() {
		for node := range s.live {
			for i, name := range p.table.Names(node) {
				if name != "" {
					s.live[node].Set(addressing.FirstPodOffset+i, true)
				}
			}
		}
	}
	p.hostPorts.Archive(a, func(pod string) string {
		at, ok := p.table.Of(pod)
		if !ok {
			return ""
		}
		return s.byIndex[at.Node].Name
	})
}
