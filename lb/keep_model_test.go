package lb

// The dull twin of the planner that keeps ports: random changes of a running load
// balancer, under traffic, and who has to keep what is said block by block.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// modelBlock is a block of one protocol, which its first port stands for.
type modelBlock struct {
	protocol snat.Protocol
	first    netip.AddrPort
}

func blockOf(p snat.Protocol, outside netip.AddrPort) modelBlock {
	return modelBlock{p, netip.AddrPortFrom(outside.Addr(), outside.Port()/snat.BlockSize*snat.BlockSize)}
}

type modelGrace struct {
	backend string
	until   time.Duration
}

// keepModel is what the twin knows of the load balancer.
type keepModel struct {
	t     *testing.T
	l     *LoadBalancer
	now   time.Duration
	nodes map[string]bool
	owns  map[string][]modelBlock // by backend, in the order of consumption
	grace map[modelBlock]modelGrace
	c     Config                    // in force
	flows map[netip.AddrPort]string // outside socket of a UDP flow to its backend
}

// owners returns who owns what, and fails if two own one block.
func (m *keepModel) owners() map[modelBlock]string {
	all := map[modelBlock]string{}
	for name, blocks := range m.owns {
		for _, b := range blocks {
			require.Empty(m.t, all[b], "%v belongs to two", b)
			all[b] = name
		}
	}
	return all
}

// blocksOf returns the blocks of an allocation.
func blocksOf(a Allocation) (all []modelBlock) {
	for _, r := range a.Ports {
		for k := range r.Count / snat.BlockSize {
			first := netip.AddrPortFrom(r.Frontend, r.First+uint16(k*snat.BlockSize))
			for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
				if covers(r.Protocol, p) {
					all = append(all, modelBlock{p, first})
				}
			}
		}
	}
	return all
}

// usable reports whether a load balancer may grant a block.
func usable(c *Config, b modelBlock) bool {
	known := slices.ContainsFunc(c.FrontendIPConfigurations, func(f FrontendIPConfiguration) bool { return f.PublicIPAddress == b.first.Addr() })
	return known && !ruled(c, b)
}

// ruled reports whether a load-balancing rule has a port of a block. Flows of backends on
// such a block end at once, whatever the grace.
func ruled(c *Config, b modelBlock) bool {
	for _, l := range c.LoadBalancingRules {
		if covers(l.Protocol, b.protocol) && c.FrontendIPConfigurations[slices.IndexFunc(c.FrontendIPConfigurations, func(f FrontendIPConfiguration) bool {
			return f.Name == l.FrontendIPConfiguration
		})].PublicIPAddress == b.first.Addr() && l.FrontendPort/snat.BlockSize == b.first.Port()/snat.BlockSize {
			return true
		}
	}
	return false
}

// change puts c into force and checks who has got what. With several rules, only how
// much everybody has and which flows go on is checked.
func (m *keepModel) change(c Config) {
	t := m.t
	fresh, err := c.Plan()
	require.NoError(t, err)
	_, err = m.l.Reconfigure(flow.At(m.now), c)
	require.NoError(t, err)
	plan := m.l.Allocations()
	m.c = c

	before, was := m.owns, m.owners()
	m.owns, m.nodes = map[string][]modelBlock{}, map[string]bool{}
	for i, a := range plan {
		require.Equal(t, fresh[i].Instance, a.Instance)
		m.nodes[a.Instance] = true
		m.owns[a.Instance] = blocksOf(a)
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			require.Equal(t, fresh[i].Total(p, false), a.Total(p, false), "%s %v", a.Instance, p)
		}
	}
	is := m.owners()
	for b := range is {
		require.True(t, usable(&c, b), "%v was granted", b)
	}

	// Graces go on, or begin.
	until := m.now + c.ReclaimGrace
	rests := map[modelBlock]modelGrace{}
	for b, g := range m.grace {
		if g.until > m.now && m.nodes[g.backend] && c.ReclaimGrace > 0 {
			rests[b] = modelGrace{g.backend, min(g.until, until)}
		}
	}
	for b, name := range was {
		if m.nodes[name] && is[b] != name && c.ReclaimGrace > 0 {
			rests[b] = modelGrace{name, until}
		}
	}
	for b := range rests { // a rule takes its block at once
		if !usable(&c, b) && slices.ContainsFunc(c.FrontendIPConfigurations, func(f FrontendIPConfiguration) bool { return f.PublicIPAddress == b.first.Addr() }) {
			delete(rests, b)
		}
	}
	if len(c.OutboundRules) == 1 {
		m.checkKept(&c, before, is, rests)
	}
	for b := range is {
		delete(rests, b)
	}
	m.grace = rests
	m.checkFlows()
}

// checkKept checks that nobody has lost more than there was to lose, and that what
// has been added came from the right place. rests are the blocks that were to be left
// alone.
func (m *keepModel) checkKept(c *Config, before map[string][]modelBlock, is map[modelBlock]string, rests map[modelBlock]modelGrace) {
	t := m.t
	idle := map[snat.Protocol]int{} // blocks that might have been granted without harm
	for _, f := range c.FrontendIPConfigurations {
		for port := FirstPort; port <= LastPort; port += snat.BlockSize {
			for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
				b := modelBlock{p, netip.AddrPortFrom(f.PublicIPAddress, uint16(port))}
				if _, resting := rests[b]; is[b] == "" && !resting && usable(c, b) {
					idle[p]++
				}
			}
		}
	}
	for name, blocks := range m.owns {
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			had, has := 0, 0
			kept, first := map[netip.Addr]bool{}, true
			for _, b := range blocks {
				if b.protocol == p {
					has++
				}
			}
			stopped := map[netip.Addr]bool{}
			for _, b := range before[name] {
				if b.protocol != p || !usable(c, b) {
					continue
				}
				had++
				switch f := b.first.Addr(); {
				case is[b] == name:
					require.False(t, stopped[f], "%s keeps %v, but not what came before", name, b)
					kept[f] = true
				default:
					stopped[f], first = true, false
				}
			}
			still := 0
			for _, b := range before[name] {
				if b.protocol == p && is[b] == name {
					still++
				}
			}
			require.Equal(t, min(had, has), still, "%s had %d blocks of %v, has %d and has kept %d", name, had, p, has, still)
			if still == has {
				continue
			}
			require.True(t, first, "%s has lost and gained", name)
			returned := 0
			for _, b := range blocks {
				g, resting := rests[b]
				switch {
				case b.protocol != p || slices.Contains(before[name], b):
				case resting && g.backend == name:
					returned++
				case resting:
					require.Zero(t, idle[p], "%s got %v of %s, and others were idle", name, b, g.backend)
				}
			}
			own := 0
			for b, g := range rests {
				if b.protocol == p && g.backend == name && usable(c, b) {
					own++
				}
			}
			require.Equal(t, min(own, has-still), returned, "%s gets its own back first", name)
		}
	}
}

// checkFlows forgets the flows that must have ended, and checks that the others have
// not.
func (m *keepModel) checkFlows() {
	is := m.owners()
	for outside, backend := range m.flows {
		b := blockOf(snat.UDP, outside)
		g, resting := m.grace[b]
		if is[b] != backend && !(is[b] == "" && resting && g.backend == backend && g.until > m.now && !ruled(&m.c, b)) {
			delete(m.flows, outside)
		}
	}
	m.l.Advance(flow.At(m.now), nil)
	active := map[netip.AddrPort]bool{}
	for s := range m.l.Sessions() {
		require.Contains(m.t, m.flows, s.Outside, "has to be over")
		active[s.Outside] = true
	}
	for outside, backend := range m.flows {
		require.True(m.t, active[outside], "%v of %s has ended", outside, backend)
	}
}

// open lets some backends begin flows.
func (m *keepModel) open(c *Config, r *rand.Rand, step int) {
	for range 40 {
		src := c.Backends[r.IntN(len(c.Backends))]
		p := pkttest.UDP(netip.AddrPortFrom(src.Addrs[0], uint16(1024+r.IntN(60_000))).String(), fmt.Sprintf("203.0.113.%d:53", step%200), "query")
		if v := m.l.Outbound(flow.At(m.now), p); v.Action == flow.Forward {
			outside := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), uint16(p[20])<<8|uint16(p[21]))
			if have, ok := m.flows[outside]; ok {
				require.Equal(m.t, have, src.Name)
			}
			m.flows[outside] = src.Name
		}
	}
}

// randomPool is a load balancer of some backends and frontends, at random.
func randomPool(r *rand.Rand) Config {
	c := publicPool(40+r.IntN(80), 4, []int{0, 0, 8, 64, 256, 1024}[r.IntN(6)])
	c.Layout, c.FrontendMode = Layout(r.IntN(int(numLayouts))), FrontendMode(r.IntN(int(numFrontendModes)))
	c.OutboundRules[0].IdleTimeout = 120 * time.Minute
	for range r.IntN(10) {
		i := r.IntN(len(c.Backends))
		c.Backends = slices.Delete(c.Backends, i, i+1)
	}
	c.BackendAddressPools[0].Backends = nil
	for _, b := range c.Backends {
		c.BackendAddressPools[0].Backends = append(c.BackendAddressPools[0].Backends, b.Name)
	}
	for len(c.FrontendIPConfigurations) > 1 && r.IntN(2) == 0 || c.OutboundRules[0].AllocatedOutboundPorts < 1024 && len(c.FrontendIPConfigurations) == 4 {
		i := r.IntN(len(c.FrontendIPConfigurations))
		c.FrontendIPConfigurations = slices.Delete(c.FrontendIPConfigurations, i, i+1)
		c.OutboundRules[0].FrontendIPConfigurations = slices.Delete(c.OutboundRules[0].FrontendIPConfigurations, i, i+1)
	}
	if r.IntN(2) == 0 {
		c.LoadBalancingRules = []LoadBalancingRule{{
			Name: "web", FrontendIPConfiguration: c.FrontendIPConfigurations[0].Name, BackendAddressPool: "aksOutboundBackendPool", Protocol: snat.UDP,
			FrontendPort: uint16(1024 + r.IntN(4000)), BackendPort: 80, DisableOutboundSNAT: true,
		}}
	}
	if r.IntN(4) == 0 {
		c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "few", Backends: c.BackendAddressPools[0].Backends[:1+r.IntN(9)]})
		few := c.OutboundRules[0]
		few.Name, few.BackendAddressPool, few.AllocatedOutboundPorts = "few", "few", 512
		few.FrontendIPConfigurations = few.FrontendIPConfigurations[:1]
		c.OutboundRules = append(c.OutboundRules, few)
	}
	if r.IntN(3) > 0 {
		c.ReclaimGrace = time.Duration(1+r.IntN(120)) * time.Second
	}
	return c
}

func TestKeepingPortsAtRandom(t *testing.T) {
	pkttest.OneGoroutine(t)
	steps := pkttest.Operations(8, 40, 400)
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 11))
		c := randomPool(r)
		m := &keepModel{t: t, l: newLoadBalancer(t, c), flows: map[netip.AddrPort]string{}, owns: map[string][]modelBlock{}}
		for _, a := range m.l.Allocations() {
			m.owns[a.Instance] = blocksOf(a)
		}
		m.owners()
		for step := range steps {
			m.open(&c, r, step)
			m.now += time.Duration(r.IntN(45)) * time.Second
			m.checkFlows()
			next := randomPool(r)
			if next.Validate() != nil {
				continue
			}
			t.Logf("seed %d step %d: %d backends, %d frontends, %d ports, grace %v", seed, step, len(next.Backends), len(next.FrontendIPConfigurations), next.OutboundRules[0].AllocatedOutboundPorts, next.ReclaimGrace)
			c = next
			m.change(c)
		}
	}
}
