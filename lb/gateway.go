// The running NAT gateway: a translator whose ports all backends share.

package lb

import (
	"fmt"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
	"github.com/seed-a61be3fe/natplane/lb/internal/seats"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// GatewayConfig describes a NAT gateway and the machines of its subnets. NewGateway
// keeps no reference to it.
type GatewayConfig struct {
	NATGateway

	// Backends are the virtual machines of all subnets that the gateway is attached
	// to. Their PublicIPAddresses are of no use, because the gateway precedes them.
	Backends []Backend

	// Routes say what happens to new flows by their destination; see snat.Config.
	Routes []snat.Route

	// NetworkSecurity is the network security groups of the subnets; see Config.
	NetworkSecurity *nsg.Config

	// Dataplane is how the translator runs and what it carries besides TCP and UDP.
	// StandardV2 carries ICMP echo even without ICMP.Queries. ReclaimGrace must be 0,
	// for a gateway's ports are taken from nobody. Seed decides the ports, which are
	// random. CountTraffic makes the metrics ByteCount and PacketCount.
	snat.Dataplane
}

// Gateway carries packets between the backends of a [GatewayConfig] and the
// Internet. Instance i is GatewayConfig.Backends[i], unless an Egress has made it, and the
// frontends are the addresses of the gateway. What a [snat.NAT] has besides means nothing here: a gateway's ports are
// nobody's own, so that none can be stranded with a backend. It cannot be
// reconfigured but by the [Egress] that it is attached to, and only in its backends, its
// routes, its hooks and what is asked of new flows. It is safe for concurrent use.
type Gateway struct {
	translator
	security *nsg.Compiled  // nil if there are no groups; immutable
	config   *GatewayConfig // that of NewGateway; nil if an Egress has made it
}

// Validate returns nil if [NewGateway] would accept c as far as this package is
// concerned, and otherwise one error that joins every problem found.
func (c GatewayConfig) Validate() error {
	_, err := c.check()
	return err
}

// check is Validate, and returns the compiled network security groups, nil if there are
// none.
func (c *GatewayConfig) check() (*nsg.Compiled, error) {
	var p problems.List
	c.NATGateway.validate("", &p)
	own := c.NATGateway.owned("")
	if p.Len() > 0 {
		own = nil // there may be no end of addresses
	}
	p.Include("", c.Dataplane.Validate())
	p.Include("", snat.Config{Routes: c.Routes}.Validate())
	groups := checkSecurity(&p, c.NetworkSecurity, &c.Dataplane)
	if c.ReclaimGrace != 0 {
		p.Add("ReclaimGrace", c.ReclaimGrace, ErrUnsupported, "a gateway takes ports from nobody")
	}
	checkSharedQueries("", &c.Dataplane, &p)
	backends := Config{Backends: c.Backends}
	p.Include("", backends.Validate())
	owners.Check(&p, append(backends.owned(""), own...))
	return groups, p.Err()
}

// checkSharedQueries adds what a dataplane, which is in a configuration at path, says of queries
// that a gateway cannot do.
func checkSharedQueries(path string, d *snat.Dataplane, p *problems.List) {
	for _, f := range []struct {
		name string
		set  bool
	}{{"ICMP.QueryPerDestination", d.ICMP.QueryPerDestination}, {"ICMP.RandomIDs", d.ICMP.RandomIDs}} {
		if f.set {
			p.Add(path+f.name, true, snat.ErrShared, "the ports of a gateway are")
		}
	}
}

// Translator returns the configuration of the translator that carries out c.
// See [preset.AzureNATGateway] for its timers and limits. StandardV2 carries ICMP echo
// besides TCP and UDP, for 60 s, which is our choice, and ICMP errors only if c.ICMP says
// so. The errors are those of Validate.
func (c GatewayConfig) Translator() (snat.Config, error) {
	t, _, err := c.compile()
	return t, err
}

// compile is Translator, and returns the compiled network security groups, nil if there are
// none.
func (c *GatewayConfig) compile() (snat.Config, *nsg.Compiled, error) {
	groups, err := c.check()
	if err != nil {
		return snat.Config{}, nil, err
	}
	site := preset.Site{Routes: c.Routes, Frontends: c.Addrs(), IdleTimeout: c.idleTimeout(), Seed: c.Seed}
	for _, b := range c.Backends {
		site.Instances = append(site.Instances, snat.Instance{Name: b.Name, Addrs: b.Addrs, Inside: b.Inside})
	}
	t, err := preset.AzureNATGateway(site, c.Generation)
	if err != nil {
		return snat.Config{}, nil, fmt.Errorf("NAT gateway %q: %w", c.Name, err)
	}
	if t.Dataplane = c.Dataplane; groups != nil {
		t.Admit = admission(groups, c.Backends)
	}
	t.ICMP.Queries = t.ICMP.Queries || c.SKU == GatewayStandardV2
	return t, groups, nil
}

// NewGateway returns the gateway that c describes. The error joins every problem of
// c, as Validate reports them, or is what snat.New says about the fields that are
// only passed on to it. No goroutine stays; Close returns its memory.
func NewGateway(c GatewayConfig) (*Gateway, error) {
	c = c.clone()
	g, err := c.start(0, nil)
	if err == nil {
		g.config = &c
	}
	return g, err
}

// clone returns a copy of c that shares no memory with it.
func (c GatewayConfig) clone() GatewayConfig {
	c.NATGateway, c.Backends, c.Routes = c.NATGateway.clone(), cloneBackends(c.Backends), slices.Clone(c.Routes)
	c.ICMP.RouterAddrs = slices.Clone(c.ICMP.RouterAddrs)
	if c.NetworkSecurity != nil {
		c.NetworkSecurity = new(c.NetworkSecurity.Clone())
	}
	return c
}

// start is NewGateway at now. Backends get the indexes that they are about to have in like,
// unless that is nil.
func (c *GatewayConfig) start(now flow.Time, like *snat.NAT) (*Gateway, error) {
	t, groups, err := c.compile()
	if err != nil {
		return nil, err
	}
	nat, err := seats.New(now, t, like)
	if err != nil {
		return nil, fmt.Errorf("NAT gateway %q: %w", c.Name, err)
	}
	return &Gateway{translator{observation{nat}}, groups, nil}, nil
}

// SecurityGroups returns the network security groups of GatewayConfig.NetworkSecurity, or nil
// if there are none. Their Explain says which rule decides about a flow. The gateway of an
// Egress asks those of [Egress.SecurityGroups], and has none of its own.
func (g *Gateway) SecurityGroups() *nsg.Compiled { return g.security }

// Metrics returns a sample of every series of the gateway; see [monitor.NATGateway].
func (g *Gateway) Metrics() []monitor.Sample { return monitor.NATGateway(g.nat) }
