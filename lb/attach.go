// Attaching a NAT gateway to an egress: which packets go to it. Read the NAT
// document's sections on precedence and coexistence first.

package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
	"github.com/seed-a61be3fe/natplane/lb/internal/sides"
	"github.com/seed-a61be3fe/natplane/snat"
)

// attached is the gateway of an egress, or none.
type attached struct {
	*Gateway // nil if there is none
	config   GatewayConfig
	next     *snat.Checked // of a gateway that goes on
	sides    *sides.Table
	admit    atomic.Pointer[func(snat.NewFlow) flow.Reason] // what config.Admit calls
}

// admitBy makes admit decide which flows of the gateway begin; nil lets all. The gateway asks in
// any case, so that who answers can change without its hearing of it.
func (g *attached) admitBy(admit func(snat.NewFlow) flow.Reason) {
	if admit == nil {
		admit = func(snat.NewFlow) flow.Reason { return flow.ReasonNone }
	}
	g.admit.Store(&admit)
}

// ask is what config.Admit says.
func (g *attached) ask(f snat.NewFlow) flow.Reason { return (*g.admit.Load())(f) }

// Gateway returns the NAT gateway in force, or nil. It is for observation: its doors
// are called by those of the egress, and Close is too.
func (e *Egress) Gateway() *Gateway {
	return e.gateway.Load().Gateway
}

// gatewayConfig describes the gateway of c, which has one.
func (c *EgressConfig) gatewayConfig() GatewayConfig {
	l := &c.LoadBalancer
	g := GatewayConfig{
		NATGateway: *c.NATGateway, Backends: slices.Clone(l.Backends), Routes: slices.Clone(l.Routes), Dataplane: l.Dataplane,
	}
	g.ReclaimGrace = 0
	if len(g.PublicIPPrefixes) == 0 { // one spelling of none, for same
		g.PublicIPPrefixes = nil
	}
	if len(g.ICMP.RouterAddrs) == 0 {
		g.ICMP.RouterAddrs = nil
	}
	for i := range g.Routes {
		if r := &g.Routes[i]; r.Action == snat.PassThrough || r.Action == snat.NodeAddress { // they have been asked about in front
			r.Action, r.PassOn = snat.PassThrough, true
		}
	}
	for i := range g.Backends {
		g.Backends[i].PublicIPAddresses = nil
	}
	return g
}

// validateGateway adds what is wrong with the gateway and the load balancers beside it.
func (c *EgressConfig) validateGateway(p *problems.List) {
	const coexist = "a Basic load balancer cannot coexist with a NAT gateway"
	if l := &c.LoadBalancer; l.SKU == Basic && len(l.FrontendIPConfigurations) > 0 {
		p.Add("LoadBalancer.SKU", l.SKU, flow.ErrConflict, coexist)
	}
	for i := range c.InternalLoadBalancers {
		if sku := c.InternalLoadBalancers[i].SKU; sku == Basic {
			p.Add(internalPath(i)+".SKU", sku, flow.ErrConflict, coexist)
		}
	}
	c.NATGateway.validate("NATGateway", p)
	checkSharedQueries("LoadBalancer.", &c.LoadBalancer.Dataplane, p)
}

// passOn returns routes by which flows that have no session yet go to the gateway,
// where there is one, instead of being translated by anything else. Those of the user
// come first, as Azure's precedence wants.
func (c *EgressConfig) passOn(routes []snat.Route) []snat.Route {
	users := routes
	routes = slices.Clone(routes)
	for i := range routes {
		if r := &routes[i]; r.Action == snat.Translate && c.NATGateway.serves(r.Prefix.Addr().Is6()) {
			r.Action, r.PassOn = snat.PassThrough, true
		}
	}
	for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		if c.NATGateway.serves(all.Addr().Is6()) {
			routes = append(routes, snat.Route{Prefix: all, Action: snat.PassThrough, PassOn: true})
		}
	}
	for _, b := range c.InternalLoadBalancers { // what their rules do not serve is nobody's, the gateway's neither
		for _, f := range b.FrontendIPConfigurations {
			if c.NATGateway.serves(f.PrivateIPAddress.Is6()) {
				routes = append(rowsTo(users, f.PrivateIPAddress), routes...) // before that of a user with the same prefix
			}
		}
	}
	return routes
}

// rowsTo returns rows for one address alone that say of it what routes do. Where rows of several lengths
// are for it, a shorter one with ports precedes a longer one without.
func rowsTo(routes []snat.Route, a netip.Addr) (rows []snat.Route) {
	for _, r := range routes {
		if r.Prefix.Contains(a) {
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b snat.Route) int { return cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()) })
	rows = append(rows, snat.Route{})
	whole := slices.IndexFunc(rows, func(r snat.Route) bool { return r.Protocol == snat.All && r.FirstPort == 0 })
	rows = rows[:whole+1]
	for i := range rows {
		rows[i].Prefix = owners.Host(a)
	}
	return rows
}

// attach returns the gateway that c asks for, or none: the one in force if it
// will do, with its flows, else a new one, for which admit says which flows begin; nil lets
// all. One that goes on hears of what is new by adopt, when all else is in order, and refuses
// nothing then. e.mu must be held.
func (e *Egress) attach(now flow.Time, c EgressConfig, admit func(snat.NewFlow) flow.Reason) (*attached, error) {
	if c.NATGateway == nil {
		return &attached{}, nil
	}
	a := c.newAttached(admit)
	config := &a.config
	was := e.gateway.Load()
	if was.Gateway != nil && was.config.same(*config) && !was.config.hooked() && !config.hooked() {
		return was, nil
	}
	if was.Gateway != nil && was.config.sharesWith(*config) {
		t, err := config.Translator()
		if err == nil {
			a.next, err = was.nat.CheckReconfigure(t)
		}
		if err != nil {
			return nil, err
		}
		a.Gateway = was.Gateway
	} else {
		g, err := config.start(now, e.nat)
		if err != nil {
			return nil, err
		}
		a.Gateway = g
	}
	a.place()
	return a, nil
}

// newAttached returns what becomes the gateway of c, which has one; admit says which flows begin, nil lets
// all.
func (c *EgressConfig) newAttached(admit func(snat.NewFlow) flow.Reason) *attached {
	a := &attached{config: c.gatewayConfig()}
	a.admitBy(admit)
	a.config.Admit = a.ask
	return a
}

// place notes which addresses are public, and which are inside.
func (a *attached) place() {
	var inside []netip.Prefix
	for _, b := range a.config.Backends {
		for _, addr := range b.Addrs {
			inside = append(inside, owners.Host(addr))
		}
		inside = append(inside, b.Inside...)
	}
	a.sides = sides.New(a.config.Addrs(), inside)
}

// same reports whether two configurations are the same but for their hooks and for what
// Admit says, which of an attached gateway can change.
func (c GatewayConfig) same(o GatewayConfig) bool {
	c.Hooks, o.Hooks = snat.Hooks{}, snat.Hooks{}
	c.Admit, o.Admit = nil, nil
	return reflect.DeepEqual(c, o)
}

// hooked reports whether there are hooks. Functions cannot be compared, so where there are
// some, they may be others than before.
func (c GatewayConfig) hooked() bool { return !reflect.ValueOf(c.Hooks).IsZero() }

// sharesWith reports whether a gateway can go on with another configuration, and with it
// the flows of backends that stay: only backends, routes, what is asked of new flows, whether
// traffic is counted and what means nothing to a gateway may differ.
func (c GatewayConfig) sharesWith(o GatewayConfig) bool {
	for _, g := range []*GatewayConfig{&c, &o} {
		g.Backends, g.Routes, g.CountTraffic, g.DistributionKey = nil, nil, false, 0
		g.Shards = cmp.Or(g.Shards, flow.DefaultShards)
	}
	return c.same(o)
}

// adopt gives a gateway that goes on its backends, routes and hooks at now.
func (g *attached) adopt(now flow.Time, was *attached) snat.Change {
	if g.Gateway == nil || g == was || g.Gateway != was.Gateway {
		return snat.Change{}
	}
	return mustAccept(g.nat.ReconfigureChecked(now, g.next))
}

// mustAccept returns what a change did that the translator of a gateway accepts, unless somebody
// has closed it.
func mustAccept(change snat.Change, err error) snat.Change {
	if err != nil && !errors.Is(err, flow.ErrClosed) {
		panic(fmt.Sprintf("lb: the gateway refuses what it has accepted: %v", err))
	}
	return change
}

// addCuts adds to what a change did to backends the flows that they have lost at the gateway.
func addCuts(change *snat.Change, gateway snat.Change) {
	for _, g := range gateway.Instances {
		i := slices.IndexFunc(change.Instances, func(c snat.InstanceChange) bool { return c.Name == g.Name })
		if i < 0 {
			if g.Cut == [snat.NumCutCauses]int{} {
				continue
			}
			i, change.Instances = len(change.Instances), append(change.Instances, snat.InstanceChange{Name: g.Name})
		}
		for cause, n := range g.Cut {
			change.Instances[i].Cut[cause] += n
		}
	}
}

// end ends the flows of a gateway that is no longer in force, which is without backends from
// now on.
func (g *attached) end(now flow.Time, inForce *attached) snat.Change {
	if g.Gateway == nil || g.Gateway == inForce.Gateway {
		return snat.Change{}
	}
	config := g.config
	config.Backends = nil
	t, err := config.Translator()
	if err != nil {
		panic(fmt.Sprintf("lb: a gateway without backends is not valid: %v", err))
	}
	return mustAccept(g.nat.Reconfigure(now, t))
}

// retire keeps a gateway that is no longer in force until the egress is closed,
// unless it is that in force. e.mu must be held.
func (e *Egress) retire(g, inForce *attached) {
	if g.Gateway != nil && g.Gateway != inForce.Gateway {
		e.retired = append(e.retired, g.Gateway)
	}
}

// owns reports whether a packet is sent to an address of the gateway.
func (g *attached) owns(pkt []byte) bool { return g.Gateway != nil && g.sides.ToPublic(pkt) }

// passes reports whether a packet that the translator in front of the gateway hands out has
// yet to pass the gateway: a fragment that has waited there for the first of its
// datagram, and was then not translated. Else its source would not be inside.
func (g *attached) passes(m *flow.Emission) bool {
	var p wire.Packet
	wire.Parse(m.Packet, &p)
	return m.To == flow.Outside && p.Flags&wire.Fragmented != 0 && g.sides.FromInside(m.Packet)
}

// before returns the sink of the translator in front of the gateway, whose packets go to
// emit in the end.
func (e *Egress) before(emit flow.Sink) flow.Sink {
	if !e.fragments || emit == nil {
		return emit
	}
	return func(m flow.Emission) {
		if g := e.gateway.Load(); g.Gateway != nil && g.passes(&m) {
			v := g.Outbound(m.At, m.Packet)
			if v.Action != flow.Forward && v.Action != flow.Bypass {
				return
			}
			m.Instance = v.Instance
		}
		emit(m)
	}
}
