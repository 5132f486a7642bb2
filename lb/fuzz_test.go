package lb

// Arbitrary configurations: each is refused with an error at once, or works.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/arbitrary"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// arbitraryProber finds a part of all backends down at any time.
type arbitraryProber struct{ Up uint8 }

func (a *arbitraryProber) Probe(at flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	return probe.Result((uint8(at/flow.Time(time.Second)) + uint8(len(b.Name)) + a.Up) % 3)
}

// values are worth trying in a field of a configuration.
var values = arbitrary.Values{
	Numbers: []int64{0, 1, 2, 3, 4, 7, 8, 12, 64, 80, 443, 1023, 1024, 1032, 32_000, 64_000, 64_008, 65_535, math.MaxInt32, -1, -8, math.MinInt64, math.MaxInt64},
	Times:   []time.Duration{0, 1, time.Second, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute, 30 * time.Minute, 100 * time.Minute, 120 * time.Minute, flow.MaxTimeout, flow.MaxTimeout + 1, -1, math.MaxInt64, math.MinInt64},
	Addrs:   addresses(),
	Texts:   []string{"", "ip0", "ip1", "node0", "node1", "aksOutboundBackendPool", "aksOutboundRule", "web", "fe", "ssh", "health", "%d\x00"},
	Types:   []reflect.Type{reflect.TypeFor[*arbitraryProber]()},
}

func addresses() (all []netip.Addr) {
	all = append(all, netip.Addr{})
	for _, a := range []string{"10.224.0.4", "10.224.0.5", "10.224.0.6", "10.244.0.0", "20.50.1.0", "20.50.1.1", "20.50.1.2", "20.60.0.0", "10.225.0.4", "203.0.113.16", "198.18.0.0", "0.0.0.0", "127.0.0.1",
		"255.255.255.255", "224.0.0.1", "169.254.1.1", "fd00::4", "2001:db8::", "2001:db8::1", "::", "::1", "::ffff:10.0.0.4", "fe80::1%eth0", "ff02::1"} {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// decisions reads bytes as decisions; at the end all are 0.
type decisions struct{ b []byte }

func (d *decisions) next(n int) int {
	if len(d.b) == 0 {
		return 0
	}
	c := int(d.b[0])
	d.b = d.b[1:]
	return c % n
}

// egresses are where arbitrary configurations begin: that of an egress has all others
// in it.
func egresses() []EgressConfig {
	full := EgressConfig{LoadBalancer: fullConfig()}
	dual := EgressConfig{LoadBalancer: publicPool(3, 2, 64), InternalLoadBalancers: internals(Standard)}
	l := &dual.LoadBalancer
	l.FrontendIPConfigurations = append(l.FrontendIPConfigurations, FrontendIPConfiguration{Name: "ip6", PublicIPAddress: netip.MustParseAddr("2001:db8::1")})
	l.OutboundRules[0].FrontendIPConfigurations = append(l.OutboundRules[0].FrontendIPConfigurations, "ip6")
	for i := range l.Backends {
		l.Backends[i].Addrs = append(l.Backends[i].Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%d", 4+i)))
	}
	l.Backends[2].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
	l.ReclaimGrace, l.CountTraffic = time.Minute, true
	l.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough}}
	v2 := withGateway(dual)
	v2.NATGateway.SKU, v2.NATGateway.PublicIPPrefixes = GatewayStandardV2, []netip.Prefix{netip.MustParsePrefix("20.60.0.16/28"), netip.MustParsePrefix("2001:db8:60::/124")}
	public, internal := bothBalancers(nil)
	public.Prober = &arbitraryProber{Up: 1}
	both := EgressConfig{LoadBalancer: public, InternalLoadBalancers: []InternalLoadBalancer{besides(internal)}}
	return []EgressConfig{
		full, dual, both, withGateway(full), v2, basicCluster(2), basicCluster(2, "A", "B"),
		{LoadBalancer: publicPool(2, 1, 0)}, {LoadBalancer: publicPool(60, 2, 0)}, {LoadBalancer: ruleSNAT(Standard)}, {LoadBalancer: ruleSNAT(Basic)},
		{LoadBalancer: internalPool(3)}, {LoadBalancer: haPorts(2, false)}, {LoadBalancer: haPorts(2, true)}, {LoadBalancer: natPool("node0", "node1", "node2")}, {LoadBalancer: probedPool(3)},
	}
}

// carrier is what an Egress, a LoadBalancer and a Gateway have in common.
type carrier interface {
	flow.Translator
	Metrics() []monitor.Sample
	Stats() Stats
	Close()
}

// exercise sends some packets through a carrier and looks at all that it shows.
func exercise(now flow.Time, x carrier, c *Config) {
	for i, b := range c.Backends {
		for _, src := range b.Addrs {
			dst, outside := "203.0.113.53:53", "20.50.1.1:1024"
			if src.Is6() {
				dst, outside = "[2001:db8:5::7]:53", "[2001:db8::1]:1024"
			}
			if i > 4 || !flow.IsHost(src) {
				continue
			}
			near := netip.AddrPortFrom(src, 5000).String()
			x.Outbound(now, pkttest.UDP(near, dst, "query"))
			x.Outbound(now, pkttest.TCP(near, dst, pkttest.TCPFlags("S")))
			x.Inbound(now, pkttest.UDP(dst, outside, "answer"))
		}
	}
	for _, s := range x.Metrics() {
		_ = s.String()
	}
}

// readable checks an error: one problem a line, and no message with a bad format.
func readable(t *testing.T, err error) {
	t.Helper()
	for line := range strings.Lines(err.Error()) {
		require.NotEmpty(t, strings.TrimSpace(line))
		require.NotContains(t, strings.ReplaceAll(line, "%d", ""), "%!")
	}
}

// tryAll makes everything that c describes, and lets it work.
func tryAll(t *testing.T, c, after EgressConfig) {
	now := flow.At(time.Second)
	valid := c.LoadBalancer.Validate()
	_ = c.LoadBalancer.Warnings()
	l, err := New(c.LoadBalancer)
	if valid != nil {
		require.EqualError(t, err, valid.Error())
	}
	if err != nil {
		readable(t, err)
	} else {
		defer l.Close()
		exercise(now, l, &c.LoadBalancer)
		for _, by := range []snat.By{snat.ByInstance, snat.ByInside, snat.ByDestination} {
			l.TopPorts(after.LoadBalancer.Shards, by)
		}
		l.Stranded()
		before := fmt.Sprint(l.Allocations())
		if _, err := l.Reconfigure(now, after.LoadBalancer); err != nil {
			readable(t, err)
			require.Equal(t, before, fmt.Sprint(l.Allocations()))
		} else {
			fresh, err := after.LoadBalancer.Plan()
			require.NoError(t, err)
			for i, a := range l.Allocations() {
				for _, is6 := range []bool{false, true} {
					require.Equal(t, fresh[i].Total(snat.TCP, is6), a.Total(snat.TCP, is6))
					require.Equal(t, fresh[i].Total(snat.UDP, is6), a.Total(snat.UDP, is6))
				}
			}
			exercise(now, l, &after.LoadBalancer)
		}
		l.NextDeadline()
		l.Advance(now.Add(time.Hour), nil)
	}

	e, err := NewEgress(c)
	if valid != nil {
		require.Error(t, err)
	}
	if err != nil {
		readable(t, err)
	} else {
		defer e.Close()
		exercise(now, e, &c.LoadBalancer)
		for _, x := range []EgressConfig{after, c} {
			if _, err := e.Reconfigure(now, x); err != nil {
				readable(t, err)
			}
			for i, b := range x.LoadBalancer.Backends[:min(4, len(x.LoadBalancer.Backends))] {
				e.Decide(b.Name, snat.Protocol(i%3), i%2 == 0)
				e.DecideTo(b.Name, snat.Protocol(i%3), netip.AddrPortFrom(values.Addrs[(i+len(b.Name))%len(values.Addrs)], 80))
			}
			exercise(now, e, &x.LoadBalancer)
		}
		_, err := e.Redeploy(now)
		require.NoError(t, err)
		e.Advance(now.Add(time.Hour), nil)
	}

	if c.NATGateway != nil {
		config := c.gatewayConfig()
		g, err := NewGateway(config)
		if valid := config.Validate(); valid != nil {
			require.EqualError(t, err, valid.Error())
		}
		if err != nil {
			readable(t, err)
			return
		}
		defer g.Close()
		exercise(now, g, &c.LoadBalancer)
	}
}

// FuzzConfig changes fields of configurations by a script.
func FuzzConfig(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range egresses() {
		f.Add([]byte{byte(i), 0})
		for range 8 {
			b := []byte{byte(i), byte(r.IntN(8))}
			for range 60 {
				b = append(b, byte(r.IntN(256)))
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 200 {
			t.Skip("so many changes are never valid")
		}
		d := &decisions{b}
		all := egresses()
		c := all[d.next(len(all))]
		for range d.next(4) {
			values.Change(d.next, reflect.ValueOf(&c).Elem())
		}
		after := c.clone()
		for range d.next(4) {
			values.Change(d.next, reflect.ValueOf(&after).Elem())
		}
		pkttest.Prompt(t, func() { tryAll(t, c, after) })
	})
}
