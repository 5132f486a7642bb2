package snat

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
)

// forwardConfig returns two nodes, of which the first has SNAT ports, and a forward of
// frontend port 80 to both.
func forwardConfig() Config {
	addr := netip.MustParseAddr
	return Config{
		Instances: []Instance{
			{
				Name: "a", Addrs: []netip.Addr{addr("10.0.0.4"), addr("fd00::4")},
				Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
				Ports:  []PortRange{{Frontend: addr("20.50.1.1"), First: 1024, Count: 64}, {Frontend: addr("2001:db8:50:1::1"), First: 1024, Count: 64}},
			},
			{Name: "b", Addrs: []netip.Addr{addr("10.0.0.5"), addr("fd00::5")}, PublicAddrs: []netip.Addr{addr("20.99.0.5")}},
		},
		Forwards: []Forward{{
			Frontend: addr("20.50.1.1"), FirstPort: 80,
			Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4"), Port: 8080}, {Instance: "b", Addr: addr("10.0.0.5"), Port: 8080}},
		}},
	}
}

func TestForwardProblems(t *testing.T) {
	addr := netip.MustParseAddr
	first := func(change func(f *Forward)) func(c *Config) {
		return func(c *Config) { change(&c.Forwards[0]) }
	}
	target := func(change func(t *Target)) func(c *Config) {
		return func(c *Config) { change(&c.Forwards[0].Targets[1]) }
	}
	also := func(f Forward) func(c *Config) {
		return func(c *Config) { c.Forwards = append(c.Forwards, f) }
	}
	both := func(all, one bool) func(c *Config) { // forwards of all ports and of one, which float or not
		return func(c *Config) {
			c.Forwards = append(c.Forwards[:1:1], Forward{Frontend: addr("20.50.1.9"), Floating: all}, Forward{Frontend: addr("20.50.1.9"), FirstPort: 80, Floating: one})
		}
	}
	for _, test := range []struct {
		name   string
		change func(c *Config)
		err    error // nil if there is no problem
		path   string
	}{
		{"as it is", func(*Config) {}, nil, ""},
		{"no frontend", first(func(f *Forward) { f.Frontend = netip.Addr{} }), flow.ErrAddress, "Forwards[0].Frontend"},
		{"frontend inside", first(func(f *Forward) { f.Frontend = addr("10.244.0.9") }), flow.ErrOverlap, "Forwards[0].Frontend"},
		{"public frontend", first(func(f *Forward) { f.Frontend = addr("20.99.0.5") }), flow.ErrOverlap, "Forwards[0].Frontend"},
		{"frontend of its own", first(func(f *Forward) { f.Frontend = addr("20.50.1.2") }), nil, ""},
		{"queries", first(func(f *Forward) { f.Protocol = Query }), flow.ErrOutOfRange, "Forwards[0].Protocol"},
		{"ports the wrong way round", first(func(f *Forward) { f.LastPort = 79 }), flow.ErrOutOfRange, "Forwards[0].FirstPort"},
		{"last port alone", first(func(f *Forward) { f.FirstPort, f.LastPort = 0, 79 }), flow.ErrOutOfRange, "Forwards[0].FirstPort"},
		{"port granted", first(func(f *Forward) { f.FirstPort = 1087 }), ErrOwned, "Forwards[0].FirstPort"},
		{"port behind those granted", first(func(f *Forward) { f.FirstPort = 1088 }), nil, ""},
		{"all ports, some granted", first(func(f *Forward) { f.FirstPort = 0 }), ErrOwned, "Forwards[0].FirstPort"},
		{"all ports and one, floating", both(true, true), nil, ""},
		{"all ports, floating, and one", both(true, false), ErrOwned, "Forwards[2].FirstPort"},
		{"all ports, and one, floating", both(false, true), ErrOwned, "Forwards[2].FirstPort"},
		{"all ports twice, floating", func(c *Config) {
			both(true, true)(c)
			c.Forwards[2].FirstPort = 0
		}, ErrOwned, "Forwards[2].FirstPort"},
		{"one port twice beside all, floating", func(c *Config) {
			both(true, true)(c)
			c.Forwards = append(c.Forwards, c.Forwards[2])
		}, ErrOwned, "Forwards[3].FirstPort"},
		{"granted of the other protocol", func(c *Config) {
			c.Forwards[0].FirstPort, c.Forwards[0].Protocol = 1024, UDP
			c.Instances[0].Ports[0].Protocol = TCP
		}, nil, ""},
		{"port twice", also(Forward{Frontend: addr("20.50.1.1"), FirstPort: 70, LastPort: 90, Protocol: UDP}), ErrOwned, "Forwards[1].FirstPort"},
		{"ports side by side", also(Forward{Frontend: addr("20.50.1.1"), FirstPort: 81, LastPort: 90}), nil, ""},
		{"distribution", first(func(f *Forward) { f.Distribution = numDistributions }), flow.ErrOutOfRange, "Forwards[0].Distribution"},
		{"policy", first(func(f *Forward) { f.Policy = &Policy{IdleTimeout: -1} }), flow.ErrTimeout, "Forwards[0].Policy.IdleTimeout"},
		{"hold", first(func(f *Forward) { f.Policy = &Policy{Timeouts: flow.Timeouts{UDPHeld: time.Second}} }), flow.ErrOutOfRange, "Forwards[0].Policy.Timeouts.UDPHeld"},
		{"no such instance", target(func(t *Target) { t.Instance = "c" }), flow.ErrUnknownName, "Forwards[0].Targets[1].Instance"},
		{"somebody else's address", target(func(t *Target) { t.Addr = addr("10.0.0.4") }), ErrTarget, "Forwards[0].Targets[1].Addr"},
		{"address behind", target(func(t *Target) { t.Instance, t.Addr = "a", addr("10.244.0.7") }), nil, ""},
		{"other family", target(func(t *Target) { t.Addr = addr("fd00::5") }), ErrTarget, "Forwards[0].Targets[1].Addr"},
		{"state", target(func(t *Target) { t.State = numTargetStates }), flow.ErrOutOfRange, "Forwards[0].Targets[1].State"},
		{"same target", func(c *Config) { c.Forwards[0].Targets[1] = c.Forwards[0].Targets[0] }, ErrTarget, "Forwards[0].Targets[1].Addr"},
		{"port and several ports", first(func(f *Forward) { f.LastPort = 81 }), flow.ErrOutOfRange, "Forwards[0].Targets[0].Port"},
		{"floating and another port", first(func(f *Forward) { f.Floating = true }), flow.ErrOutOfRange, "Forwards[0].Targets[0].Port"},
		{"same socket", also(Forward{Frontend: addr("20.50.1.2"), FirstPort: 443, Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4"), Port: 8080}}}), nil, ""},
		{"same socket by another policy", also(Forward{Frontend: addr("20.50.1.2"), FirstPort: 443, Policy: &Policy{IdleTimeout: time.Hour}, Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4"), Port: 8080}}}), ErrTarget, "Forwards[1].Targets[0]"},
		{"same socket among all ports", also(Forward{Frontend: addr("20.50.1.2"), Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4")}}}), nil, ""},
		{"same socket among all ports by another policy", also(Forward{Frontend: addr("20.50.1.2"), Policy: &Policy{IdleTimeout: time.Hour}, Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4")}}}), ErrTarget, "Forwards[0].Targets[0]"},
		{"same socket of another protocol", func(c *Config) {
			c.Forwards[0].Protocol = TCP
			c.Forwards = append(c.Forwards, Forward{Frontend: addr("20.50.1.2"), FirstPort: 443, Protocol: UDP, Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4"), Port: 8080}}})
		}, nil, ""},
		{"floating on the same socket", also(Forward{Frontend: addr("20.50.1.2"), FirstPort: 8080, Floating: true, Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4")}}}), nil, ""},
		{"hairpin", func(c *Config) { c.Ports = &Owned{Hairpin: true} }, flow.ErrConflict, "Forwards"},
		{"shared ports", func(c *Config) {
			c.Instances[0].Ports = nil
			c.Ports = &Shared{Frontends: []netip.Addr{addr("20.50.1.9")}}
		}, ErrShared, "Forwards"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := forwardConfig()
			test.change(&c)
			err := c.Validate()
			if test.err == nil {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, test.err)
			assert.ErrorContains(t, err, test.path)
		})
	}
}
