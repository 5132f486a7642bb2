package lb

// Internal load balancers beside a public one.

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// internals are internal load balancers without rules, whose pools have node0.
func internals(skus ...SKU) (all []InternalLoadBalancer) {
	for i, sku := range skus {
		all = append(all, InternalLoadBalancer{
			Name: fmt.Sprintf("internal%d", i), SKU: sku,
			FrontendIPConfigurations: []FrontendIPConfiguration{{Name: "fe", PrivateIPAddress: netip.MustParseAddr(fmt.Sprintf("10.224.9.%d", 10+i))}},
			BackendAddressPools:      []BackendAddressPool{{Name: "pool", Backends: []string{"node0"}}},
		})
	}
	return all
}

// besides returns the internal load balancer that a Config of its own describes.
func besides(c Config) InternalLoadBalancer {
	return InternalLoadBalancer{
		Name: c.Name, SKU: c.SKU, FrontendIPConfigurations: c.FrontendIPConfigurations, BackendAddressPools: c.BackendAddressPools,
		LoadBalancingRules: c.LoadBalancingRules, InboundNATRules: c.InboundNATRules, Probes: c.Probes,
	}
}

// bothBalancers are a public load balancer with outbound ports and an internal one, before
// the same four machines. Both call a probe, a pool and rules the same.
func bothBalancers(down machines) (public, internal Config) {
	public = web(Standard, 4, down)
	public.OutboundRules = publicPool(4, 2, 64).OutboundRules
	public.OutboundRules[0].FrontendIPConfigurations = []string{"ip1"}
	public.FrontendIPConfigurations = publicPool(4, 2, 64).FrontendIPConfigurations
	internal = natPool("node0", "node1")
	internal.Name, internal.Prober = "kubernetes-internal", down
	internal.BackendAddressPools = []BackendAddressPool{
		{Name: "aksOutboundBackendPool", Backends: []string{"node0", "node1", "node2"}}, {Name: "few", Backends: []string{"node0", "node1"}},
	}
	internal.InboundNATRules[0].BackendAddressPool = "few"
	internal.Probes = []probe.Probe{{Name: "health", Port: 9090, Interval: 7 * time.Second, NumberOfProbes: 3}}
	rule := &internal.LoadBalancingRules[0]
	rule.BackendPort, rule.IdleTimeout, rule.Probe = 8081, 9*time.Minute, "health"
	withSecond(&internal, func(l *LoadBalancingRule) {
		l.Name, l.FrontendPort, l.BackendPort, l.EnableFloatingIP, l.LoadDistribution, l.Protocol = "udp", 8080, 8080, true, SourceIP, snat.UDP
		l.EnableTCPReset = false
	})
	public.Backends = internal.Backends
	for _, c := range []*Config{&public, &internal} {
		c.CountTraffic, c.HashKey, c.Prober = true, 3, down
	}
	return public, internal
}

// together drives an egress with two load balancers and perhaps a gateway, and each of them
// alone.
type together struct {
	*testing.T
	r                *rand.Rand
	public, internal Config
	e                *Egress
	alone            [2]*LoadBalancer // public, internal
	gateway          *Gateway         // alone, or nil
	described        *NATGateway      // likewise
	refused          int              // changes
	carried          int              // packets, by the gateway
	now              flow.Time
	open             []openFlow
	gone             []openFlow // begun by a machine, by the gateway: backend is its outside socket
	shares           bool       // rules of both lead to one backend port, at times
}

// openFlow is a flow that has reached a backend.
type openFlow struct {
	of              int // load balancer
	tcp             bool
	client, backend string
}

// egress returns the configuration of both.
func (x *together) egress() EgressConfig {
	return EgressConfig{LoadBalancer: x.public, InternalLoadBalancers: []InternalLoadBalancer{besides(x.internal)}, NATGateway: x.described}
}

// bySix gives both load balancers a rule of IPv6.
func (x *together) bySix() {
	x.public.FrontendIPConfigurations = append(x.public.FrontendIPConfigurations, FrontendIPConfiguration{Name: "six", PublicIPAddress: netip.MustParseAddr("2603:1030::1")})
	for _, c := range []*Config{&x.public, &x.internal} {
		rule := c.LoadBalancingRules[0]
		rule.Name, rule.FrontendIPConfiguration = "http6", map[bool]string{true: "six", false: "fe6"}[c == &x.public]
		c.LoadBalancingRules = append(slices.Clone(c.LoadBalancingRules), rule)
	}
}

// describe returns a load balancer as it is beside the gateway, if there is one: what has no
// session is not its own, but for what is sent to internal frontends.
func (x *together) describe(c Config) Config {
	if x.described != nil {
		for _, all := range []string{"0.0.0.0/0", "::/0"} {
			c.Routes = append(c.Routes, snat.Route{Prefix: netip.MustParsePrefix(all), Action: snat.PassThrough})
		}
		for _, f := range x.internal.FrontendIPConfigurations {
			c.Routes = append(c.Routes, snat.Route{Prefix: netip.PrefixFrom(f.PrivateIPAddress, f.PrivateIPAddress.BitLen())})
		}
	}
	return c
}

// changeGateway lets a gateway come or go, or be made anew.
func (x *together) changeGateway() {
	was := x.described
	x.described = nil
	if was == nil || x.r.IntN(2) == 0 {
		x.described = &NATGateway{
			Name: "egress", SKU: GatewayStandardV2, PublicIPAddresses: []netip.Addr{gatewayIP, netip.MustParseAddr("2603:1030::60")},
			IdleTimeout: time.Duration(4+x.r.IntN(2)) * time.Minute,
		}
	}
	if was != nil && x.described != nil && was.IdleTimeout == x.described.IdleTimeout {
		return // it goes on
	}
	if x.gone = nil; x.gateway != nil {
		x.gateway.Close()
		x.gateway = nil
	}
	if x.described != nil {
		x.gateway = newGateway(x.T, GatewayConfig{NATGateway: *x.described, Backends: x.public.Backends, Dataplane: x.public.Dataplane})
	}
}

// refuse asks for a change that is not valid, which changes nothing.
func (x *together) refuse() {
	c := x.egress()
	c.InternalLoadBalancers = slices.Clone(c.InternalLoadBalancers)
	if g := c.NATGateway; g != nil { // one that would be made anew
		c.NATGateway = &NATGateway{Name: g.Name, SKU: g.SKU, PublicIPAddresses: g.PublicIPAddresses, IdleTimeout: 77 * time.Minute}
	}
	pool := c.LoadBalancer.BackendAddressPools[0] // what is valid changes, too
	pool.Backends, pool.AdminStates = pool.Backends[:1], nil
	c.LoadBalancer.BackendAddressPools = append([]BackendAddressPool{pool}, c.LoadBalancer.BackendAddressPools[1:]...)
	switch x.r.IntN(5) {
	case 0:
		c.LoadBalancer.Layout = 9
	case 1:
		c.LoadBalancer.Seed++ // the translator refuses it
	case 2:
		c.InternalLoadBalancers[0].BackendAddressPools = nil
	case 3:
		c.NATGateway = &NATGateway{Name: "egress", PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.50.1.1")}}
	case 4:
		c.LoadBalancer.DropHAPortsFragments = true
	}
	_, err := x.e.Reconfigure(x.now, c)
	require.Error(x, err)
	x.refused++
	x.compare()
}

// same sends a packet through both, by a door, and returns the verdict.
func (x *together) same(of int, from flow.Side, p []byte) flow.Verdict {
	x.Helper()
	before, q := pkttest.String(p), slices.Clone(p)
	var v, w flow.Verdict
	switch {
	case from == flow.Inside:
		v, w = x.e.Outbound(x.now, p), x.alone[of].Outbound(x.now, q)
		if w.Action == flow.Bypass && x.gateway != nil {
			w = x.gateway.Outbound(x.now, q)
			x.carried++
		}
	case of == ofGateway:
		v, w = x.e.Inbound(x.now, p), x.gateway.Inbound(x.now, q)
	default:
		v, w = x.e.Inbound(x.now, p), x.alone[of].Inbound(x.now, q)
	}
	require.Equal(x, w, v, "%v of %d: %s", x.now, of, before)
	require.Equal(x, pkttest.String(q), pkttest.String(p))
	require.Equal(x, q, p)
	return v
}

// ofGateway stands for the gateway where load balancers have numbers.
const ofGateway = 2

// own sends what a machine begins, and perhaps what answers it.
func (x *together) own() {
	i, port, remote := x.r.IntN(4), 6000+x.r.IntN(9), "198.51.100.9:53"
	from := fmt.Sprintf("10.224.0.%d:%d", 4+i, port)
	if x.r.IntN(3) == 0 {
		from, remote = fmt.Sprintf("[fd00::%x]:%d", 4+i, port), "[2001:db8:5::9]:53"
	}
	p := dgram(from, remote)
	before := x.carried
	if v := x.same(0, flow.Inside, p); v.Action == flow.Forward && x.carried > before {
		x.gone = append(x.gone, openFlow{client: remote, backend: source(p).String()})
	}
	if len(x.gone) > 0 && x.r.IntN(2) == 0 {
		f := x.gone[x.r.IntN(len(x.gone))]
		x.same(ofGateway, flow.Outside, dgram(f.client, f.backend))
	}
	if len(x.gone) > 60 {
		x.gone = x.gone[20:]
	}
}

// begin sends a packet of a client to a load balancer.
func (x *together) begin() {
	of, tcp := x.r.IntN(2), x.r.IntN(2) == 0
	n := x.r.IntN(40)
	client, frontend := fmt.Sprintf("203.0.113.%d:%d", 1+n/10, 40_000+n), "20.50.1.1:80"
	from := flow.Outside
	switch {
	case of == 0 && !tcp:
		frontend = "20.50.1.1:53"
	case of == 1:
		client, frontend = fmt.Sprintf("10.226.0.%d:%d", 1+n/10, 40_000+n), "10.225.0.4:80"
		switch hairpin := x.r.IntN(4) == 0; {
		case !tcp:
			frontend = "10.225.0.4:8080"
		case x.r.IntN(3) == 0:
			frontend = fmt.Sprint("10.225.0.4:", 5000+x.r.IntN(3))
		case hairpin:
			client, from = fmt.Sprintf("10.224.0.%d:%d", 4+n%4, 40_000+n), flow.Inside
		}
	}
	if tcp && from == flow.Outside && x.r.IntN(3) == 0 { // there is no other one of IPv6
		client, frontend = fmt.Sprintf("[2001:db8::%x]:%d", 1+n/10, 40_000+n), "[2603:1030::1]:80"
		if of == 1 {
			client, frontend = fmt.Sprintf("[fd00:226::%x]:%d", 1+n/10, 40_000+n), "[fd00:1::9]:80"
		}
	}
	p := dgram(client, frontend)
	if tcp {
		if p = syn(client, frontend); x.r.IntN(3) == 0 {
			p = ack(client, frontend)
		}
	}
	v := x.same(of, from, p)
	if v.Action == flow.Forward && from == flow.Outside {
		x.open = append(x.open, openFlow{of, tcp, client, destination(p)})
	}
}

// destination returns the socket that a packet is sent to.
func destination(p []byte) string {
	if p[0]>>4 == 6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[24:40])), uint16(p[42])<<8|uint16(p[43])).String()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), uint16(p[22])<<8|uint16(p[23])).String()
}

// answer sends what a backend answers.
func (x *together) answer() {
	if len(x.open) == 0 {
		return
	}
	f := x.open[x.r.IntN(len(x.open))]
	p := dgram(f.backend, f.client)
	if f.tcp {
		if p = synAck(f.backend, f.client); x.r.IntN(2) == 0 {
			p = ackBack(f.backend, f.client)
		}
	}
	x.same(f.of, flow.Inside, p)
}

// pass lets time pass, and compares what is emitted.
func (x *together) pass(d time.Duration) {
	x.now = x.now.Add(d)
	var got, want []string
	x.e.Advance(x.now, func(m flow.Emission) { got = append(got, fmt.Sprint(m.At, m.To, m.Instance, pkttest.String(m.Packet))) })
	for _, l := range x.each() {
		l.Advance(x.now, func(m flow.Emission) {
			want = append(want, fmt.Sprint(m.At, m.To, m.Instance, pkttest.String(m.Packet)))
		})
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(x, want, got)
}

// change changes one of the load balancers, or the groups of both.
func (x *together) change() {
	c := []*Config{&x.public, &x.internal}[x.r.IntN(2)]
	if x.r.IntN(3) == 0 {
		x.refuse()
		return
	}
	n := 4
	if x.shares {
		n = 5
	}
	switch x.r.IntN(n) {
	case 3:
		x.changeGateway()
	case 4:
		x.internal.LoadBalancingRules = slices.Clone(x.internal.LoadBalancingRules)
		x.internal.LoadBalancingRules[0].BackendPort ^= 8080 ^ 8081
	case 0:
		pool := c.BackendAddressPools[0]
		pool.Backends, pool.AdminStates = nil, nil
		for _, i := range x.r.Perm(4)[:1+x.r.IntN(4)] {
			pool.Backends = append(pool.Backends, fmt.Sprint("node", i))
		}
		c.BackendAddressPools = append([]BackendAddressPool{pool}, c.BackendAddressPools[1:]...)
	case 1:
		pool := c.BackendAddressPools[0]
		pool.AdminStates = []BackendAdminState{{pool.Backends[0], probe.AdminState(x.r.IntN(3))}}
		c.BackendAddressPools = append([]BackendAddressPool{pool}, c.BackendAddressPools[1:]...)
	case 2:
		x.public.NetworkSecurity = nil
		if x.r.IntN(2) == 0 {
			x.public.NetworkSecurity = x.groups()
		}
		x.internal.NetworkSecurity = x.public.NetworkSecurity
	}
	update(x.T, x.e, time.Duration(x.now), x.egress())
	for i, l := range x.alone {
		_, err := l.Reconfigure(x.now, x.describe([]Config{x.public, x.internal}[i]))
		require.NoError(x, err)
	}
}

// groups is a network security group that blocks some clients of both.
func (x *together) groups() *nsg.Config {
	allow := sec("all", nsg.Inbound, nsg.Allow, "*", "*", "*")
	allow.Priority, allow.Protocol = 4096, nsg.Any
	rules := []nsg.SecurityRule{allow}
	for i, a := range []string{"203.0.113.1", "10.226.0.2"} {
		no := sec(fmt.Sprint("no", i), nsg.Inbound, nsg.Deny, a, "10.224.0.0/24", "1-65535")
		no.Priority, no.Protocol = 100+i, nsg.Any
		rules = append(rules, no)
	}
	return &nsg.Config{
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: rules}},
		Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/24")}, NetworkSecurityGroup: "nodes"}},
	}
}

// each returns what is driven alone.
func (x *together) each() []alone {
	all := []alone{x.alone[0], x.alone[1]}
	if x.gateway != nil {
		all = append(all, x.gateway)
	}
	return all
}

// alone is a part of an egress that carries packets by itself.
type alone interface {
	flow.Translator
	Sessions() iter.Seq[flow.Info]
}

// compare compares what can be seen.
func (x *together) compare() {
	var got, want []string
	for s := range x.e.Sessions() {
		got = append(got, fmt.Sprint(s.Kind, s.Proto, s.Inside, s.Outside, s.Remote, s.State, s.Idle))
	}
	for _, l := range x.each() {
		for s := range l.Sessions() {
			want = append(want, fmt.Sprint(s.Kind, s.Proto, s.Inside, s.Outside, s.Remote, s.State, s.Idle))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(x, want, got, "sessions")
	require.Equal(x, x.alone[0].Metrics(), x.e.Metrics())
	m, ok := x.e.InternalMetrics(x.internal.Name)
	require.True(x, ok)
	require.Equal(x, x.alone[1].Metrics(), m)
	require.Equal(x, x.alone[0].Allocations(), x.e.Allocations())
	p, ok := x.e.InternalPortMappings(x.internal.Name)
	require.True(x, ok)
	require.Equal(x, x.alone[1].PortMappings(), p)
}

// An egress with a public and an internal load balancer, and a gateway that comes and goes, is
// packet by packet what each of them is alone; and a change that is refused is none.
func TestEgressIsItsLoadBalancers(t *testing.T) {
	pkttest.OneGoroutine(t)
	const seeds = 4
	ops := pkttest.Operations(8000, 40_000, 200_000) / seeds
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			down := machines{}
			x := &together{T: t, r: rand.New(rand.NewPCG(seed, 5))}
			x.public, x.internal = bothBalancers(down)
			if seed%2 == 1 { // a port of the machines that both lead to
				x.shares = true
				x.public.LoadBalancingRules[0].IdleTimeout, x.public.LoadBalancingRules[0].EnableTCPReset = 9*time.Minute, true
				x.internal.LoadBalancingRules[0].BackendPort = 8080
			}
			x.bySix()
			x.e = newEgress(t, x.egress())
			x.alone = [2]*LoadBalancer{newLoadBalancer(t, x.public), newLoadBalancer(t, x.internal)}
			for i := range ops {
				switch n := x.r.IntN(100); {
				case n < 40:
					x.begin()
				case n < 70:
					x.answer()
				case n < 85:
					x.own()
				case n < 93:
					x.pass(time.Duration(1+x.r.IntN(90)) * time.Second)
				case n < 97:
					name := fmt.Sprint("node", x.r.IntN(4))
					down[name] = !down[name]
				default:
					x.change()
				}
				if i%100 == 0 {
					x.compare()
				}
				if len(x.open) > 60 {
					x.open = x.open[20:]
				}
			}
			x.compare()
			assert.Positive(t, x.refused)
			assert.Positive(t, x.carried)
		})
	}
}

// Machines behind both: who comes by the internal frontend is answered by it, and what a
// machine begins leaves by the public one.
func TestInternalBesidePublic(t *testing.T) {
	public, internal := bothBalancers(nil)
	c := EgressConfig{LoadBalancer: public, InternalLoadBalancers: []InternalLoadBalancer{besides(internal)}}
	s := &site{T: t, carrier: newEgress(t, c)}
	s.pass(0)
	s.pass(7 * time.Second)
	p := syn("10.226.0.9:40000", "10.225.0.4:80")
	backend := node(s.in(p))
	pkttest.Check(t, p, pkttest.Src("10.226.0.9:40000"), pkttest.Dst(backend+":8081"))
	assert.Equal(t, "10.225.0.4:80", s.out(synAck(backend+":8081", "10.226.0.9:40000")))
	p = syn(client(1), "20.50.1.1:80")
	backend = node(s.in(p))
	assert.Equal(t, "20.50.1.1:80", s.out(synAck(backend+":8080", client(1))))
	assert.Equal(t, "20.50.1.2:1024", s.out(dgram("10.224.0.4:7000", "198.51.100.9:53")))

	e := s.carrier.(*Egress)
	for _, m := range e.Metrics() {
		assert.NotEqual(t, "10.225.0.4", m.FrontendIPAddress.String(), "%v", m)
	}
	all, ok := e.InternalMetrics("kubernetes-internal")
	require.True(t, ok)
	kinds := map[monitor.Metric]bool{}
	for _, m := range all {
		assert.Equal(t, "10.225.0.4", m.FrontendIPAddress.String(), "%v", m)
		kinds[m.Metric] = true
	}
	assert.True(t, kinds[monitor.VipAvailability] && kinds[monitor.DipAvailability] && kinds[monitor.SYNCount])
	assert.False(t, kinds[monitor.AllocatedSnatPorts] || kinds[monitor.SnatConnectionCount], "it has no SNAT ports")
	_, ok = e.InternalMetrics("kubernetes")
	assert.False(t, ok)
	_, ok = e.InternalPortMappings("other")
	assert.False(t, ok)
}

// A rule of a public and one of an internal load balancer lead to one port of the machines,
// without floating IP: each flow is answered by the frontend that it has come by, and the internal
// rule may have HA ports. Who comes from one socket by both is served by one at a time.
func TestPublicAndInternalRuleOnOneBackendPort(t *testing.T) {
	for _, ha := range []bool{false, true} {
		for _, floating := range []bool{false, true} {
			c := EgressConfig{LoadBalancer: web(Standard, 4, nil)}
			c.LoadBalancer.Prober = nil
			internal := internalPool(4)
			internal.LoadBalancingRules[0].EnableTCPReset = false
			frontend := "10.225.0.4:80"
			if ha {
				internal, frontend = haPorts(4, false), "10.225.0.4:8080"
			}
			c.InternalLoadBalancers = []InternalLoadBalancer{besides(internal)}
			if floating { // the public one then has a port of its own
				rule := &c.LoadBalancer.LoadBalancingRules[0]
				rule.EnableFloatingIP, rule.BackendPort = true, rule.FrontendPort
			}
			s := &site{T: t, carrier: newEgress(t, c)}
			s.pass(0)
			socketOf := func(frontend string, node string) string {
				if floating && frontend == "20.50.1.1:80" {
					return frontend
				}
				return node + ":8080"
			}
			for i := range 40 {
				public, private := fmt.Sprint("203.0.113.7:", 5000+i), fmt.Sprint("10.226.0.9:", 5000+i)
				for _, by := range []struct{ client, frontend string }{{public, "20.50.1.1:80"}, {private, frontend}} {
					p := syn(by.client, by.frontend)
					backend := node(s.in(p))
					pkttest.Check(t, p, pkttest.Src(by.client), pkttest.Dst(socketOf(by.frontend, backend)))
					assert.Equal(t, by.frontend, s.out(synAck(socketOf(by.frontend, backend), by.client)))
				}
			}
			if floating {
				continue
			}
			both, by := 0, map[string]string{} // of one client
			for i := range 40 {
				client := fmt.Sprint("10.226.0.8:", 5000+i)
				backend := node(s.in(syn(client, "20.50.1.1:80")))
				by[client] = backend
				second := syn(client, frontend)
				got := s.in(second)
				if got == flow.ReasonMappingConflict.String() {
					both++
				} else {
					pkttest.Check(t, second, pkttest.Dst(node(got)+":8080"))
					assert.Equal(t, frontend, s.out(synAck(node(got)+":8080", client)))
				}
				assert.Equal(t, "20.50.1.1:80", s.out(synAck(backend+":8080", client)), "the first is answered")
			}
			assert.InDelta(t, 10, both, 9, "of 40, where both lead to the same of 4 machines")
			assert.Positive(t, both)
			for client, backend := range by { // the first is over, and the second takes its place
				s.in(pkttest.TCP(client, "20.50.1.1:80", pkttest.TCPFlags("R"), pkttest.Seq(101)))
				if node(s.in(syn(client, frontend))) == backend {
					assert.Equal(t, frontend, s.out(synAck(backend+":8080", client)))
				}
			}
		}
	}
}

// The hairpin limitation of internal load balancers, also where a gateway or a public
// load balancer has what else the machines send: once in n flows.
func TestAzureInternalHairpinBesides(t *testing.T) {
	for _, name := range []string{"public", "gateway"} {
		t.Run(name, func(t *testing.T) {
			c := EgressConfig{LoadBalancer: publicPool(4, 1, 64), InternalLoadBalancers: []InternalLoadBalancer{besides(internalPool(4))}}
			c.LoadBalancer.Backends = internalPool(4).Backends
			if name == "gateway" {
				c = withGateway(c)
			}
			s := &site{T: t, carrier: newEgress(t, c)}
			lost := 0
			for i := range 4000 {
				p := syn(fmt.Sprintf("10.224.0.4:%d", 1024+i), "10.225.0.4:80")
				v := s.Outbound(s.now, p)
				if v.Action == flow.Drop {
					require.Equal(t, flow.ReasonTargetLoop, v.Reason)
					lost++
					continue
				}
				require.Equal(t, flow.Inside, v.To)
				pkttest.Check(t, p, pkttest.Src(fmt.Sprintf("10.224.0.4:%d", 1024+i)), pkttest.ChecksumsOK())
			}
			assert.InDelta(t, 1000, lost, 120)
		})
	}
}

// A Standard internal load balancer excludes default outbound access for its members, and
// for the others of their group; a Basic one, or one of addresses, does not.
func TestAzure_41_by_membership(t *testing.T) {
	c := EgressConfig{LoadBalancer: publicPool(2, 0, 0), InternalLoadBalancers: internals(Standard)}
	c.LoadBalancer.OutboundRules, c.LoadBalancer.BackendAddressPools = nil, nil
	e := newEgress(t, c)
	assert.Equal(t, "No rule of its Standard load balancer serves outbound flows, and membership excludes default outbound access.", decide(t, e, "node0").Reason)
	assert.Equal(t, "A member of its group has a Standard SKU, which excludes default outbound access for all.", decide(t, e, "node1").Reason)
	c.InternalLoadBalancers[0].BackendAddressPools[0].IPBased = true
	update(t, e, 0, c)
	assert.Equal(t, DefaultOutboundAccess, decide(t, e, "node0").Option, "its pool is one of addresses")
	c.InternalLoadBalancers[0].BackendAddressPools[0].Backends = nil
	update(t, e, 0, c)
	assert.Equal(t, DefaultOutboundAccess, decide(t, e, "node1").Option, "it has nobody")
}

// What is wrong with several load balancers is said by the field.
func TestInternalLoadBalancersAreValidated(t *testing.T) {
	valid := func() EgressConfig {
		public, internal := bothBalancers(nil)
		return EgressConfig{LoadBalancer: public, InternalLoadBalancers: []InternalLoadBalancer{besides(internal)}}
	}
	for want, spoil := range map[string]func(c *EgressConfig, b *InternalLoadBalancer){
		`InternalLoadBalancers[0].Name "": missing`:                                        func(_ *EgressConfig, b *InternalLoadBalancer) { b.Name = "" },
		`InternalLoadBalancers[0].Name "kubernetes": duplicate name: already LoadBalancer`: func(_ *EgressConfig, b *InternalLoadBalancer) { b.Name = "kubernetes" },
		`InternalLoadBalancers[1].Name "kubernetes-internal": duplicate name: already InternalLoadBalancers[0]`: func(c *EgressConfig, b *InternalLoadBalancer) {
			c.InternalLoadBalancers = append(c.InternalLoadBalancers, *b)
		},
		`InternalLoadBalancers[0].SKU Basic: conflict: the pools of LoadBalancer are of SKU Standard`: func(_ *EgressConfig, b *InternalLoadBalancer) { b.SKU = Basic },
		`InternalLoadBalancers[0].FrontendIPConfigurations[0] "fe": conflict`: func(_ *EgressConfig, b *InternalLoadBalancer) {
			b.FrontendIPConfigurations = []FrontendIPConfiguration{{Name: "fe", PublicIPAddress: netip.MustParseAddr("20.9.9.9")}, {Name: "fe6", PrivateIPAddress: netip.MustParseAddr("fd00:1::9")}}
		},
		`InternalLoadBalancers[0].FrontendIPConfigurations[0].PrivateIPAddress 10.224.0.4/32: overlap: with LoadBalancer.Backends[0]`: func(_ *EgressConfig, b *InternalLoadBalancer) {
			b.FrontendIPConfigurations[0].PrivateIPAddress, b.FrontendIPConfigurations[0].Subnet = netip.MustParseAddr("10.224.0.4"), netip.Prefix{}
		},
		`InternalLoadBalancers[0].BackendAddressPools[0].Backends[0] "node9": unknown name`: func(_ *EgressConfig, b *InternalLoadBalancer) {
			b.BackendAddressPools[0].Backends[0] = "node9"
		},
		`InternalLoadBalancers[0].LoadBalancingRules[0].Probe "other": unknown name`: func(_ *EgressConfig, b *InternalLoadBalancer) {
			b.LoadBalancingRules[0].Probe = "other"
		},
		`InternalLoadBalancers[0].LoadBalancingRules[0].BackendPort 8080: not supported: LoadBalancer.LoadBalancingRules[0] leads to it on backend "node0"`: func(_ *EgressConfig, b *InternalLoadBalancer) {
			b.LoadBalancingRules[0].BackendPort = 8080
		},
		`LoadBalancer.LoadBalancingRules[0].BackendPort 8080: not supported: InternalLoadBalancers[0].LoadBalancingRules[0] leads to it on backend "node0"`: func(_ *EgressConfig, b *InternalLoadBalancer) {
			b.LoadBalancingRules, b.InboundNATRules = haPorts(4, false).LoadBalancingRules, nil
			b.LoadBalancingRules[0].BackendAddressPool, b.LoadBalancingRules[0].IdleTimeout = "few", 5*time.Minute
		},
		`InternalLoadBalancers[1].LoadBalancingRules[0].BackendPort 8081: conflict: RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig: InternalLoadBalancers[0].LoadBalancingRules[0] leads to it on backend "node0"`: func(c *EgressConfig, b *InternalLoadBalancer) {
			other := internals(Standard)[0]
			other.LoadBalancingRules = b.LoadBalancingRules[:1:1]
			other.LoadBalancingRules[0].BackendAddressPool, other.LoadBalancingRules[0].Probe = "pool", ""
			b.LoadBalancingRules = slices.Clone(b.LoadBalancingRules)
			b.LoadBalancingRules[0].BackendAddressPool = "few"
			c.InternalLoadBalancers = append(c.InternalLoadBalancers, other)
		},
		`LoadBalancer.Backends[0] has 302 rules of all load balancers: too many`: func(c *EgressConfig, b *InternalLoadBalancer) {
			rule := b.LoadBalancingRules[1]
			for i := range 296 {
				rule.Name, rule.FrontendPort, rule.BackendPort = fmt.Sprint("r", i), uint16(20_000+i), uint16(20_000+i)
				b.LoadBalancingRules = append(b.LoadBalancingRules, rule)
			}
		},
	} {
		c := valid()
		require.NoError(t, c.Validate())
		spoil(&c, &c.InternalLoadBalancers[0])
		assert.ErrorContains(t, c.Validate(), want)
		_, err := NewEgress(c)
		assert.Error(t, err)
	}
	c := valid()
	c.LoadBalancer.MaxRuleIdleTimeout = 100 * time.Minute
	e := newEgress(t, c)
	rules := &c.InternalLoadBalancers[0].LoadBalancingRules
	for i := range 8 { // more timers than the translator has shards
		rule := (*rules)[0]
		rule.Name, rule.FrontendPort, rule.BackendPort, rule.IdleTimeout = fmt.Sprint("r", i), uint16(20_000+i), uint16(20_000+i), time.Duration(20+i)*time.Minute
		*rules = append(*rules, rule)
	}
	_, err := e.Reconfigure(0, c)
	assert.ErrorContains(t, err, "InternalLoadBalancers[0].LoadBalancingRules and InboundNATRules, with those of LoadBalancer: different idle timeouts and reset settings 10: not supported")
	c = valid()
	c.InternalLoadBalancers[0].LoadBalancingRules[0].IdleTimeout = time.Minute
	c.InternalLoadBalancers[0].Probes[0].Interval = time.Second
	c.LoadBalancer.Layout = 9
	_, err = e.Reconfigure(0, c)
	for _, part := range []string{"LoadBalancer.Layout 9", "InternalLoadBalancers[0].LoadBalancingRules[0].IdleTimeout 1m0s", "InternalLoadBalancers[0].Probes[0].Interval 1s"} {
		assert.ErrorContains(t, err, part)
	}
	c = valid()
	c.LoadBalancer.OutboundRules, c.LoadBalancer.LoadBalancingRules, c.LoadBalancer.BackendAddressPools = nil, nil, nil
	c.InternalLoadBalancers[0].SKU, c.InternalLoadBalancers[0].LoadBalancingRules[0].EnableTCPReset = Basic, false
	_, err = e.Reconfigure(0, c)
	assert.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, "InternalLoadBalancers[0].SKU Basic: cannot be changed by Reconfigure")
}

// An internal load balancer comes and goes under traffic, and nobody else notices.
func TestInternalLoadBalancerComesAndGoes(t *testing.T) {
	public, internal := bothBalancers(nil)
	c := EgressConfig{LoadBalancer: public}
	s := &site{T: t, carrier: newEgress(t, c)}
	e := s.carrier.(*Egress)
	s.pass(0)
	s.pass(5 * time.Second)
	backend := node(s.in(syn(client(1), "20.50.1.1:80")))
	outside := s.out(dgram("10.224.0.4:7000", "198.51.100.9:53"))
	assert.Equal(t, flow.ReasonNotOurs.String(), s.in(syn("10.226.0.9:40000", "10.225.0.4:80")))

	c.InternalLoadBalancers = []InternalLoadBalancer{besides(internal)}
	update(t, e, time.Duration(s.now), c)
	assert.Equal(t, flow.ReasonNoTarget.String(), s.in(syn("10.226.0.9:40000", "10.225.0.4:80")), "before the first probe")
	s.pass(7 * time.Second)
	inner := node(s.in(syn("10.226.0.9:40000", "10.225.0.4:80")))
	assert.Equal(t, "20.50.1.1:80", s.out(synAck(backend+":8080", client(1))))
	assert.Equal(t, outside, s.out(dgram("10.224.0.4:7000", "198.51.100.9:53")))

	c.InternalLoadBalancers[0].LoadBalancingRules[0].LoadDistribution = SourceIP
	update(t, e, time.Duration(s.now), c)
	assert.Equal(t, "10.225.0.4:80", s.out(synAck(inner+":8081", "10.226.0.9:40000")), "its flows go on")
	assert.NotEqual(t, flow.ReasonNoTarget.String(), s.in(syn("10.226.0.9:40001", "10.225.0.4:80")), "what probes have found is still known")

	c.InternalLoadBalancers = nil
	update(t, e, time.Duration(s.now), c)
	assert.Equal(t, flow.ReasonNotOurs.String(), s.in(ack("10.226.0.9:40000", "10.225.0.4:80")))
	assert.Equal(t, "20.50.1.1:80", s.out(ackBack(backend+":8080", client(1))))
}

// Each load balancer's health is its own, though all call their probes the same.
func TestHealthIsOfOneBalancer(t *testing.T) {
	down := machines{}
	public, internal := bothBalancers(down)
	e := newEgress(t, EgressConfig{LoadBalancer: public, InternalLoadBalancers: []InternalLoadBalancer{besides(internal)}})
	down["node0"] = true
	e.Advance(0, nil) // probes begin
	e.Advance(flow.At(time.Minute), nil)
	for name, healthy := range map[string]bool{"node0": false, "node1": true} {
		got, ok := e.Healthy("health", name)
		assert.True(t, ok)
		assert.Equal(t, healthy, got, name)
		got, ok = e.InternalHealthy(internal.Name, "health", name)
		assert.True(t, ok)
		assert.Equal(t, healthy, got, name)
	}
	_, ok := e.InternalHealthy(internal.Name, "health", "node3")
	assert.False(t, ok, "it is in no pool of the internal one")
	_, ok = e.Healthy("health", "node3")
	assert.True(t, ok)
	_, ok = e.InternalHealthy("", "health", "node0")
	assert.False(t, ok)
}

// Interfaces without group are what the SKU makes of them also where only internal load
// balancers have frontends.
func TestWithoutGroupOfInternalBalancers(t *testing.T) {
	c := EgressConfig{LoadBalancer: Config{Backends: internalPool(2).Backends}, InternalLoadBalancers: []InternalLoadBalancer{besides(internalPool(2))}}
	c.LoadBalancer.NetworkSecurity = &nsg.Config{WithoutGroup: nsg.Open}
	err := c.Validate()
	require.ErrorIs(t, err, flow.ErrConflict)
	assert.ErrorContains(t, err, "LoadBalancer.NetworkSecurity.WithoutGroup")
	c.LoadBalancer.NetworkSecurity.WithoutGroup = nsg.Closed
	require.NoError(t, c.Validate())
}
