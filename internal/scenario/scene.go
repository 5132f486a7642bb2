package scenario

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// stage is the state of a running scenario.
type stage struct {
	// The scene.
	site    preset.Site
	changes []func(*snat.Config)             // options, in order
	config  func() (snat.Config, error)      // of a bare translator; nil is that of bare
	make    func(*stage) (translator, error) // of anything else; nil is a bare translator
	balance balance                          // of a load balancer

	// What happens.
	nat  *digest.Recorder // nil before the first packet
	see  translator       // the same without a digest
	now  flow.Time
	last [2][]byte // the last packet that each side received
}

// translator is what a scenario drives and looks at.
type translator interface {
	flow.Translator
	Stats() snat.Stats
	Frontends() []snat.FrontendStats
	Instances() iter.Seq2[int, snat.InstanceStats]
	Close()
}

func (s *stage) close() {
	if s.see != nil {
		s.see.Close()
	}
}

// begin makes the translator, unless there is one.
func (s *stage) begin() (err error) {
	if s.nat != nil {
		return nil
	}
	if s.see, err = s.build(); err == nil {
		s.nat = digest.Record(s.see)
	}
	return err
}

// build makes a translator of the scene.
func (s *stage) build() (translator, error) {
	if s.make != nil {
		return s.make(s)
	}
	c, err := s.configured()
	if err != nil {
		return nil, err
	}
	n, err := snat.New(c)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// configured is the configuration of a bare translator or a preset.
func (s *stage) configured() (snat.Config, error) {
	if s.config == nil {
		return s.bare(), nil
	}
	c, err := s.config()
	return s.changed(c), err
}

// bare is the configuration of instances with ports of their own.
func (s *stage) bare() snat.Config {
	return s.changed(snat.Config{Instances: slices.Clone(s.site.Instances), Routes: s.site.Routes})
}

func (s *stage) changed(c snat.Config) snat.Config {
	for _, change := range s.changes {
		change(&c)
	}
	return c
}

func (s *stage) instance(words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, errUsage
	}
	a := parse(words[1:], "addr* inside* public* ports* realm", "")
	inst := snat.Instance{
		Name: words[0], Realm: uint32(a.number("realm", 1<<24-1)), Addrs: each(a, "addr", netip.ParseAddr),
		Inside: each(a, "inside", netip.ParsePrefix), PublicAddrs: each(a, "public", netip.ParseAddr), Ports: each(a, "ports", parseRange),
	}
	if i := slices.IndexFunc(s.site.Instances, func(i snat.Instance) bool { return i.Name == inst.Name }); i >= 0 {
		s.site.Instances[i] = inst
	} else {
		s.site.Instances = append(s.site.Instances, inst)
	}
	return nil, a.err
}

// parseRange reads FRONTEND:FIRST+COUNT[/PROTOCOL].
func parseRange(text string) (r snat.PortRange, err error) {
	text, proto, _ := strings.Cut(text, "/")
	socket, count, _ := strings.Cut(text, "+")
	first, err := netip.ParseAddrPort(socket)
	if err != nil {
		return r, err
	}
	protocol, ok := map[string]snat.Protocol{"": snat.All, "tcp": snat.TCP, "udp": snat.UDP}[proto]
	if !ok {
		return r, fmt.Errorf("no protocol %s", proto)
	}
	r = snat.PortRange{Frontend: first.Addr(), Protocol: protocol, First: first.Port()}
	_, err = fmt.Sscan(count, &r.Count)
	return r, err
}

func (s *stage) frontend(words []string) ([]string, error) {
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return nil, err
		}
		s.site.Frontends = append(s.site.Frontends, a)
	}
	return nil, nil
}

func (s *stage) route(words []string) ([]string, error) {
	if len(words) < 2 {
		return nil, errUsage
	}
	a := parse(words[2:], "", "both")
	action, ok := map[string]snat.RouteAction{"translate": snat.Translate, "node": snat.NodeAddress, "pass": snat.PassThrough, "drop": snat.Blackhole}[words[1]]
	prefix, err := netip.ParsePrefix(words[0])
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errUsage
	}
	s.site.Routes = append(s.site.Routes, snat.Route{Prefix: prefix, Action: action, BothWays: a.is("both")})
	return nil, a.err
}

func (s *stage) options(words []string) ([]string, error) {
	a := parse(words, "idle grace shards udpshare maxflows rest", "reset icmp router fragments hairpin open refused hold traffic answer")
	idle, grace, rest := a.duration("idle"), a.duration("grace"), a.duration("rest")
	shards, flows := int(a.number("shards", 64)), int(a.number("maxflows", 1<<20))
	share, ok := map[string]snat.PortShare{"address": snat.SharePerAddress, "destination": snat.SharePerDestination, "never": snat.ShareNever}[a.text("udpshare")]
	if !ok && a.text("udpshare") != "" {
		a.fail(fmt.Errorf("udpshare=%s: %w", a.text("udpshare"), errUsage))
	}
	s.changes = append(s.changes, func(c *snat.Config) {
		set(&c.IdleTimeout, idle)
		set(&c.ReclaimGrace, grace)
		set(&c.Shards, shards)
		setTrue(&c.EnableTCPReset, a.is("reset"))
		setTrue(&c.EndRefused, a.is("refused"))
		setTrue(&c.CountTraffic, a.is("traffic"))
		if a.is("answer") {
			c.ResetUnknown = snat.ResetSender
		}
		if a.is("icmp") {
			c.ICMP.Queries, c.ICMP.Errors = true, true
		}
		if a.is("router") {
			c.ICMP.TTL = snat.TTLRouter
		}
		if a.is("fragments") {
			c.Fragments.Mode = snat.FragmentsVirtual
		}
		if a.is("hold") {
			c.HoldSYN.Max = 64
		}
		if shared, isShared := c.Ports.(*snat.Shared); isShared {
			set(&shared.MaxFlows, flows)
			return
		}
		owned, isOwned := c.Ports.(*snat.Owned)
		if !isOwned {
			owned = &snat.Owned{}
			c.Ports = owned
		}
		if ok {
			owned.UDP.Share = share
		}
		set(&owned.Allocation.Quarantine.Hold, rest)
		if a.is("open") {
			owned.TCP.Filtering, owned.UDP.Filtering = snat.EndpointIndependentFiltering, snat.EndpointIndependentFiltering
			owned.TCP.Share, owned.UDP.Share, owned.Allocation.Pooling = snat.ShareNever, snat.ShareNever, snat.Paired
		}
		if a.is("hairpin") {
			owned.Hairpin, owned.TCP.Share, owned.UDP.Share = true, snat.ShareNever, snat.ShareNever
		}
	})
	return nil, a.err
}

// set sets a field to a value that is not zero.
func set[T comparable](field *T, v T) {
	var zero T
	if v != zero {
		*field = v
	}
}

func setTrue(field *bool, on bool) { *field = *field || on }

func (s *stage) preset(words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, errUsage
	}
	p, ok := preset.ByName(words[0])
	if !ok {
		return nil, fmt.Errorf("%q: no such preset", words[0])
	}
	a := parse(words[1:], "ports idle seed", "")
	s.site.PortsPerInstance, s.site.IdleTimeout, s.site.Seed = int(a.number("ports", 1<<20)), a.duration("idle"), a.number("seed", 1<<63)
	s.config = func() (snat.Config, error) { return p.Configure(s.site) }
	return nil, a.err
}

func (s *stage) gateway(words []string) ([]string, error) {
	a := parse(words, "idle", "v2")
	idle := a.duration("idle")
	s.make = func(s *stage) (translator, error) {
		c := lb.GatewayConfig{NATGateway: lb.NATGateway{IdleTimeout: idle, PublicIPAddresses: s.site.Frontends}, Routes: s.site.Routes, Dataplane: s.bare().Dataplane}
		if a.is("v2") {
			c.SKU = lb.GatewayStandardV2
		}
		c.Backends, _ = s.backends()
		g, err := lb.NewGateway(c)
		if err != nil {
			return nil, err
		}
		return g, nil
	}
	return nil, a.err
}

func (s *stage) cluster(words []string) ([]string, error) {
	a := parse(words, "nodes ips ports idle", "dual")
	c := overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Name: "nodes", Count: int(a.number("nodes", 1000))}},
		LoadBalancerProfile: overlay.LoadBalancerProfile{
			ManagedOutboundIPCount: int(a.number("ips", 100)), AllocatedOutboundPorts: int(a.number("ports", 1<<20)), IdleTimeout: a.duration("idle"),
		},
	}
	if a.is("dual") {
		c.IPFamilies = "ipv4,ipv6"
	}
	s.make = func(s *stage) (translator, error) {
		c.Dataplane = s.bare().Dataplane
		cluster, err := overlay.New(c)
		if err != nil {
			return nil, err
		}
		return cluster, nil
	}
	return nil, a.err
}

// refused prints why the scene is none.
func (s *stage) refused([]string) ([]string, error) {
	t, err := s.build()
	if err == nil {
		t.Close()
		return []string{"accepted"}, nil
	}
	return strings.Split(err.Error(), "\n"), nil
}

func (s *stage) reconfigure([]string) (lines []string, err error) {
	var change snat.Change
	switch t := s.see.(type) {
	case *snat.NAT:
		var c snat.Config
		if c, err = s.configured(); err == nil {
			change, err = t.Reconfigure(s.now, c)
		}
	case *balanced:
		change, err = t.Reconfigure(s.now, s.balanced())
	default:
		return nil, fmt.Errorf("this scene cannot be changed")
	}
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("changed %s", describe(change))}, nil
}
