package overlay_test

import (
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// observed is what can be seen of every type that carries packets.
type observed[Session any] interface {
	flow.Translator
	Stats() snat.Stats
	Connections() []snat.ConnectionStats
	Frontends() []snat.FrontendStats
	Traffic() []snat.FrontendTraffic
	Instances() iter.Seq2[int, snat.InstanceStats]
	Sessions() iter.Seq[Session]
	TopPorts(k int, by snat.By) []snat.PortUser
	Close()
}

// measured has Azure's metrics besides.
type measured[Session any] interface {
	observed[Session]
	Metrics() []monitor.Sample
}

// reconfigured can be given another configuration while traffic flows.
type reconfigured[Config any] interface {
	Stranded() []snat.StrandedPorts
	Reconfigure(now flow.Time, c Config) (snat.Change, error)
}

var (
	_ observed[flow.Info]           = (*snat.NAT)(nil)
	_ reconfigured[snat.Config]     = (*snat.NAT)(nil)
	_ measured[flow.Info]           = (*lb.LoadBalancer)(nil)
	_ reconfigured[lb.Config]       = (*lb.LoadBalancer)(nil)
	_ measured[flow.Info]           = (*lb.Gateway)(nil)
	_ measured[flow.Info]           = (*lb.Egress)(nil)
	_ reconfigured[lb.EgressConfig] = (*lb.Egress)(nil)
	_ measured[overlay.Session]     = (*overlay.Cluster)(nil)

	_ reconfigured[overlay.ClusterConfig] = (*overlay.Cluster)(nil)
)

// without says why a type does not have a door that another has.
var without = map[string]map[string]string{
	"snat.NAT": {
		"Metrics":     "they have Azure's names, and the backends' addresses, which are resources; package lb/monitor reads them of any NAT",
		"Allocations": "its ports are what its Config says",
	},
	"lb.LoadBalancer": {},
	"lb.Gateway": {
		"Stranded":    "ports that all backends share cannot be stranded with one of them",
		"Reconfigure": "a NAT with shared ports cannot be reconfigured",
		"Allocations": "no backend has ports of its own",
	},
	"lb.Egress":       {},
	"overlay.Cluster": {},
}

// Every type has every door, or a reason why not.
func TestDoorsAreEven(t *testing.T) {
	types := map[string]reflect.Type{
		"snat.NAT": reflect.TypeFor[*snat.NAT](), "lb.LoadBalancer": reflect.TypeFor[*lb.LoadBalancer](), "lb.Gateway": reflect.TypeFor[*lb.Gateway](),
		"lb.Egress": reflect.TypeFor[*lb.Egress](), "overlay.Cluster": reflect.TypeFor[*overlay.Cluster](),
	}
	doors := []string{"Metrics", "Stranded", "Reconfigure", "Allocations"}
	for _, all := range []reflect.Type{reflect.TypeFor[observed[flow.Info]]()} {
		for i := range all.NumMethod() {
			doors = append(doors, all.Method(i).Name)
		}
	}
	require.Len(t, without, len(types))
	for name, typ := range types {
		for _, door := range doors {
			_, has := typ.MethodByName(door)
			assert.Equal(t, without[name][door] == "", has, "%s.%s", name, door)
		}
		for door := range without[name] {
			assert.True(t, slices.Contains(doors, door), "%s.%s", name, door)
		}
	}
}

// anyDoors is a type with its doors, as far as they do not name its own types.
type anyDoors struct {
	flow.Translator
	see         []func()
	close       func()
	reconfigure func() error // nil if there is none
	stats       func() snat.Stats
}

// open returns one of each type.
func open(t *testing.T) map[string]anyDoors {
	shown := func(o interface {
		Stats() snat.Stats
		Connections() []snat.ConnectionStats
		Frontends() []snat.FrontendStats
		Traffic() []snat.FrontendTraffic
		Instances() iter.Seq2[int, snat.InstanceStats]
		TopPorts(k int, by snat.By) []snat.PortUser
	}, more ...func()) []func() {
		return append(more,
			func() { o.Stats() }, func() { o.Connections() }, func() { o.Frontends() }, func() { o.Traffic() },
			func() {
				for range o.Instances() {
				}
			},
			func() { o.TopPorts(3, snat.ByInside) },
		)
	}
	all := map[string]anyDoors{}
	addr := netip.MustParseAddr

	config := snat.Config{
		Instances: []snat.Instance{{
			Name: "a", Addrs: []netip.Addr{addr("10.0.0.4")}, Ports: []snat.PortRange{{Frontend: addr("20.50.1.1"), First: 1024, Count: 64}},
		}},
		Dataplane: snat.Dataplane{CountTraffic: true},
	}
	nat, err := snat.New(config)
	require.NoError(t, err)
	all["snat.NAT"] = anyDoors{nat, shown(nat, func() { nat.Stranded() }, func() {
		for range nat.Sessions() {
		}
	}), nat.Close, func() error { _, err := nat.Reconfigure(0, config); return err }, nat.Stats}

	resources := lb.Config{
		FrontendIPConfigurations: []lb.FrontendIPConfiguration{{Name: "web", PublicIPAddress: addr("20.50.1.1")}},
		Backends:                 []lb.Backend{{Name: "a", Addrs: []netip.Addr{addr("10.0.0.4")}}},
		BackendAddressPools:      []lb.BackendAddressPool{{Name: "pool", Backends: []string{"a"}}},
		OutboundRules:            []lb.OutboundRule{{Name: "out", FrontendIPConfigurations: []string{"web"}, BackendAddressPool: "pool"}},
		Dataplane:                config.Dataplane,
	}
	balancer, err := lb.New(resources)
	require.NoError(t, err)
	all["lb.LoadBalancer"] = anyDoors{balancer, shown(balancer, func() { balancer.Stranded() }, func() { balancer.Metrics() }, func() {
		for range balancer.Sessions() {
		}
	}), balancer.Close, func() error { _, err := balancer.Reconfigure(0, resources); return err }, balancer.Stats}

	gateway, err := lb.NewGateway(lb.GatewayConfig{
		NATGateway: lb.NATGateway{PublicIPAddresses: []netip.Addr{addr("20.60.0.1")}}, Backends: resources.Backends, Dataplane: config.Dataplane,
	})
	require.NoError(t, err)
	all["lb.Gateway"] = anyDoors{gateway, shown(gateway, func() { gateway.Metrics() }, func() {
		for range gateway.Sessions() {
		}
	}), gateway.Close, nil, gateway.Stats}

	egress, err := lb.NewEgress(lb.EgressConfig{LoadBalancer: resources})
	require.NoError(t, err)
	all["lb.Egress"] = anyDoors{egress, shown(egress, func() { egress.Stranded() }, func() { egress.Metrics() }, func() {
		for range egress.Sessions() {
		}
	}), egress.Close, func() error { _, err := egress.Reconfigure(0, lb.EgressConfig{LoadBalancer: resources}); return err }, egress.Stats}

	nodes := overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Count: 2}}, VNet: overlay.VNet{
			AddressSpaces: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			Subnets:       []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}},
		},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")}, Dataplane: config.Dataplane,
	}
	cluster, err := overlay.New(nodes)
	require.NoError(t, err)
	all["overlay.Cluster"] = anyDoors{cluster, shown(cluster, func() { cluster.Stranded() }, func() { cluster.Metrics() }, func() {
		for range cluster.Sessions() {
		}
	}), cluster.Close, func() error { _, err := cluster.Reconfigure(0, nodes); return err }, cluster.Stats}
	return all
}

// syn is a SYN of 10.0.0.4, which is an instance of each.
func syn() []byte {
	return []byte{
		0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 4, 198, 51, 100, 7,
		0x13, 0x88, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
	}
}

// The doors behave alike: after Close packets are dropped as closed and counted, there
// is nothing to do, and nothing can be reconfigured.
func TestDoorsAfterClose(t *testing.T) {
	for name, d := range open(t) {
		t.Run(name, func(t *testing.T) {
			before := d.stats().Outbound.Dropped
			require.Zero(t, before)
			d.close()
			d.close()
			pkt := syn()
			assert.Equal(t, flow.Verdict{Action: flow.Drop, Reason: flow.ReasonClosed}, d.Outbound(0, pkt))
			assert.Equal(t, flow.Verdict{Action: flow.Drop, Reason: flow.ReasonClosed}, d.Inbound(0, pkt))
			verdicts := make([]flow.Verdict, 2)
			d.OutboundBatch(0, [][]byte{pkt, pkt}, verdicts)
			d.InboundBatch(0, [][]byte{pkt, pkt}, verdicts)
			assert.Equal(t, flow.ReasonClosed, verdicts[1].Reason)
			assert.Equal(t, syn(), pkt, "packets are left alone")
			assert.Equal(t, uint64(3), d.stats().Outbound.Dropped)
			assert.Equal(t, uint64(3), d.stats().Inbound.Dropped)
			d.Advance(flow.At(time.Hour), nil)
			assert.True(t, d.AdvanceStep(flow.At(time.Hour), nil))
			_, waiting := d.NextDeadline()
			assert.False(t, waiting)
			for _, see := range d.see {
				see()
			}
			if d.reconfigure != nil {
				assert.ErrorIs(t, d.reconfigure(), flow.ErrClosed)
			}
		})
	}
}

// All doors may be used at once, Close too.
func TestDoorsAtOnce(t *testing.T) {
	for name, d := range open(t) {
		t.Run(name, func(t *testing.T) {
			do := append(slices.Clone(d.see),
				func() { d.Outbound(0, syn()) }, func() { d.Inbound(0, syn()) },
				func() { d.OutboundBatch(0, [][]byte{syn()}, make([]flow.Verdict, 1)) }, func() { d.InboundBatch(0, [][]byte{syn()}, make([]flow.Verdict, 1)) },
				func() { d.Advance(0, func(flow.Emission) {}) }, func() { d.AdvanceStep(0, nil) }, func() { d.NextDeadline() },
			)
			if d.reconfigure != nil {
				do = append(do, func() { _ = d.reconfigure() })
			}
			var wg sync.WaitGroup
			for _, f := range do {
				wg.Go(func() {
					for range 20 {
						f()
					}
				})
			}
			wg.Go(d.close)
			wg.Wait()
		})
	}
}
