package snat_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// mistakes are all ways to get a configuration wrong, each on its own.
var mistakes = []struct {
	name string
	make func(c *snat.Config)
	is   error
	says string // field and value, as the caller wrote them
}{
	{"no name", func(c *snat.Config) { c.Instances[1].Name = "" }, flow.ErrMissing, `Instances[1].Name ""`},
	{"name twice", func(c *snat.Config) { c.Instances[1].Name = "vm-a" }, flow.ErrDuplicateName, `Instances[1].Name "vm-a"`},
	{"no address", func(c *snat.Config) { c.Instances[0].Addrs[0] = netip.Addr{} }, flow.ErrAddress, "Instances[0].Addrs[0] invalid IP"},
	{"multicast", func(c *snat.Config) { c.Instances[0].Addrs[1] = addr("ff02::1") }, flow.ErrAddress, "Instances[0].Addrs[1] ff02::1"},
	{"loopback", func(c *snat.Config) { c.Instances[0].Addrs[0] = addr("127.0.0.1") }, flow.ErrAddress, "Instances[0].Addrs[0] 127.0.0.1"},
	{"zone", func(c *snat.Config) { c.Instances[0].Addrs[1] = addr("fe80::1%%eth0") }, flow.ErrAddress, "Instances[0].Addrs[1] fe80::1%eth0"},
	{"mapped address", func(c *snat.Config) { c.Instances[0].Addrs[0] = addr("::ffff:10.0.0.4") }, flow.ErrAddress, "Instances[0].Addrs[0] ::ffff:10.0.0.4"},
	{"two addresses of a family", func(c *snat.Config) { c.Instances[0].Addrs[1] = addr("10.0.0.7") }, flow.ErrTooMany, "Instances[0].Addrs[1] 10.0.0.7"},
	{"address twice", func(c *snat.Config) { c.Instances[1].Addrs[0] = addr(vmA) }, flow.ErrOverlap, "Instances[1].Addrs[0] 10.0.0.4/32"},
	{"no prefix", func(c *snat.Config) { c.Instances[1].Inside[0] = netip.Prefix{} }, flow.ErrPrefix, "Instances[1].Inside[0] invalid Prefix"},
	{"host bits", func(c *snat.Config) { c.Instances[1].Inside[0] = netip.MustParsePrefix("10.244.0.1/24") }, flow.ErrPrefix, "Instances[1].Inside[0] 10.244.0.1/24"},
	{"mapped prefix", func(c *snat.Config) { c.Instances[1].Inside[0] = netip.MustParsePrefix("::ffff:10.0.0.0/120") }, flow.ErrPrefix, "Instances[1].Inside[0] ::ffff:10.0.0.0/120"},
	{"prefix over an address", func(c *snat.Config) { c.Instances[1].Inside[0] = netip.MustParsePrefix("10.0.0.0/24") }, flow.ErrOverlap, "10.0.0.0/24"},
	{"prefix over a prefix", func(c *snat.Config) { c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")} }, flow.ErrOverlap, "10.244.0.0/16"},
	{"no frontend", func(c *snat.Config) { c.Instances[0].Ports[0].Frontend = netip.Addr{} }, flow.ErrAddress, "Instances[0].Ports[0].Frontend invalid IP"},
	{"frontend is broadcast", func(c *snat.Config) { c.Instances[0].Ports[0].Frontend = addr("255.255.255.255") }, flow.ErrAddress, "Instances[0].Ports[0].Frontend 255.255.255.255"},
	{"link-local frontend", func(c *snat.Config) { c.Instances[0].Ports[0].Frontend = addr("169.254.1.1") }, flow.ErrAddress, "Instances[0].Ports[0].Frontend 169.254.1.1"},
	{"link-local IPv6 frontend", func(c *snat.Config) { c.Instances[0].Ports[0].Frontend = addr("fe80::1") }, flow.ErrAddress, "Instances[0].Ports[0].Frontend fe80::1"},
	{"link-local instance", func(c *snat.Config) { c.Instances[0].Addrs[1] = addr("fe80::1") }, flow.ErrAddress, "Instances[0].Addrs[1] fe80::1"},
	{"link-local public address", func(c *snat.Config) { c.Instances[0].PublicAddrs = []netip.Addr{addr("fe80::1")} }, flow.ErrAddress, "Instances[0].PublicAddrs[0] fe80::1"},
	{"link-local public IPv4 address", func(c *snat.Config) { c.Instances[0].PublicAddrs = []netip.Addr{addr("169.254.1.1")} }, flow.ErrAddress, "Instances[0].PublicAddrs[0] 169.254.1.1"},
	{"link-local frontends of an inventory", func(c *snat.Config) {
		c.Ports = &snat.Shared{Frontends: []netip.Addr{addr("169.254.1.1"), addr("fe80::1")}}
	}, flow.ErrAddress, "Ports.Frontends[1] fe80::1"},
	{"link-local router", func(c *snat.Config) { c.ICMP.RouterAddrs = []netip.Addr{addr("fe80::1")} }, flow.ErrAddress, "ICMP.RouterAddrs[0] fe80::1"},
	{"excluded ports of a link-local frontend", func(c *snat.Config) {
		ownedPorts(c).Allocation.Exclude = []snat.Exclusion{{Frontend: addr("fe80::1"), First: 1024}}
	}, flow.ErrAddress, "Allocation.Exclude[0].Frontend fe80::1"},
	{"frontend is an instance", func(c *snat.Config) { c.Instances[1].Ports[0].Frontend = addr(vmA) }, flow.ErrOverlap, "Instances[1].Ports[0].Frontend 10.0.0.4"},
	{"frontend is itself", func(c *snat.Config) { c.Instances[0].Ports[0].Frontend = addr(vmA) }, flow.ErrOverlap, "Instances[0].Ports[0].Frontend 10.0.0.4"},
	{"frontend is inside", func(c *snat.Config) { c.Instances[0].Ports[0].Frontend = addr("10.244.0.9") }, flow.ErrOverlap, "Instances[0].Ports[0].Frontend 10.244.0.9"},
	{"protocol", func(c *snat.Config) { c.Instances[0].Ports[0].Protocol = 3 }, flow.ErrOutOfRange, "Instances[0].Ports[0].Protocol 3"},
	{"not a block", func(c *snat.Config) { c.Instances[0].Ports[0].Count = 12 }, snat.ErrPorts, "Instances[0].Ports[0] 1024+12"},
	{"no ports", func(c *snat.Config) { c.Instances[0].Ports[0].Count = 0 }, snat.ErrPorts, "Instances[0].Ports[0] 1024+0"},
	{"negative ports", func(c *snat.Config) { c.Instances[0].Ports[0].Count = -8 }, snat.ErrPorts, "Instances[0].Ports[0] 1024+-8"},
	{"unaligned", func(c *snat.Config) { c.Instances[0].Ports[0].First = 1028 }, snat.ErrPorts, "Instances[0].Ports[0] 1028+64"},
	{"port 0", func(c *snat.Config) { c.Instances[0].Ports[0].First = 0 }, snat.ErrPorts, "Instances[0].Ports[0] 0+64"},
	{"beyond 65535", func(c *snat.Config) { c.Instances[0].Ports[0].First = 65_480 }, snat.ErrPorts, "Instances[0].Ports[0] 65480+64"},
	{"granted twice", func(c *snat.Config) { c.Instances[1].Ports[0].First = 1080 }, snat.ErrOwned, "Instances[1].Ports[0] 203.0.113.10 1080+64"},
	{"granted twice to one", func(c *snat.Config) {
		c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: addr(frontend), Protocol: snat.UDP, First: 1024, Count: 8})
	}, snat.ErrOwned, "1024+8"},
	{"too many ports", func(c *snat.Config) {
		for i := range 20 {
			c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: addr("203.0.113.%d", 100+i), First: 8, Count: 65_528})
		}
	}, flow.ErrTooMany, "Instances[0].Ports"},
	{"no route", func(c *snat.Config) { c.Routes[0].Prefix = netip.Prefix{} }, flow.ErrPrefix, "Routes[0].Prefix invalid Prefix"},
	{"route with host bits", func(c *snat.Config) { c.Routes[0].Prefix = netip.MustParsePrefix("10.1.2.3/8") }, flow.ErrPrefix, "Routes[0].Prefix 10.1.2.3/8"},
	{"action", func(c *snat.Config) { c.Routes[0].Action = 4 }, flow.ErrOutOfRange, "Routes[0].Action 4"},
	{"negative idle timeout", func(c *snat.Config) { c.IdleTimeout = -time.Second }, flow.ErrTimeout, "IdleTimeout -1s"},
	{"idle timeout below a tick", func(c *snat.Config) { c.IdleTimeout = time.Microsecond }, flow.ErrTimeout, "IdleTimeout 1µs"},
	{"idle timeout of a month", func(c *snat.Config) { c.IdleTimeout = 30 * 24 * time.Hour }, flow.ErrTimeout, "IdleTimeout 720h0m0s"},
	{"timeout of a class", func(c *snat.Config) { c.Timeouts.TCPClosing = -1 }, flow.ErrTimeout, "TCPClosing -1ns"},
	{"instance's idle timeout", func(c *snat.Config) { c.Instances[1].Policy = &snat.Policy{IdleTimeout: -1} }, flow.ErrTimeout, "Instances[1].Policy.IdleTimeout -1ns"},
	{"instance's timeout", func(c *snat.Config) {
		c.Instances[1].Policy = &snat.Policy{Timeouts: flow.Timeouts{UDP: 1}}
	}, flow.ErrTimeout, "UDP 1ns"},
	{"open filter, shared port", func(c *snat.Config) { ownedPorts(c).UDP = snat.Behavior{Filtering: snat.EndpointIndependentFiltering} }, snat.ErrAmbiguous,
		"UDP.Filtering EndpointIndependentFiltering: does not tell whose packet comes from outside: where UDP.Share is SharePerAddress: it must be ShareNever"},
	{"address filter, port shared per destination", func(c *snat.Config) { ownedPorts(c).TCP.Filtering = snat.AddressDependentFiltering }, snat.ErrAmbiguous,
		"TCP.Filtering AddressDependentFiltering: does not tell whose packet comes from outside: where TCP.Share is SharePerDestination: it must be SharePerAddress or ShareNever"},
	{"ports of a third kind", func(c *snat.Config) { c.Ports = struct{ *snat.Owned }{} }, flow.ErrOutOfRange, "Ports struct"},
	{"shared ports, but nothing of them", func(c *snat.Config) { c.Ports = (*snat.Shared)(nil) }, snat.ErrShared, "Ports.Frontends has 0 addresses"},
	{"mapping", func(c *snat.Config) { ownedPorts(c).TCP.Mapping = 5 }, flow.ErrOutOfRange, "Ports.TCP.Mapping 5: out of range: 0..4"},
	{"filtering", func(c *snat.Config) { ownedPorts(c).UDP.Filtering = 5 }, flow.ErrOutOfRange, "UDP.Filtering 5"},
	{"hairpin, shared ports", func(c *snat.Config) { ownedPorts(c).Hairpin = true; ownedPorts(c).UDP.Share = snat.ShareNever }, snat.ErrAmbiguous, "Hairpin true: does not tell whose packet comes from outside: where TCP.Share is SharePerDestination"},
	{"sharing", func(c *snat.Config) { ownedPorts(c).UDP.Share = 9 }, flow.ErrOutOfRange, "Ports.UDP.Share 9"},
	{"negative shards", func(c *snat.Config) { c.Shards = -1 }, flow.ErrOutOfRange, "Shards -1"},
	{"many shards", func(c *snat.Config) { c.Shards = 65 }, flow.ErrOutOfRange, "Shards 65"},
}

// correct is a configuration without mistakes that uses every field.
func correct() snat.Config {
	return snat.Config{
		Instances: []snat.Instance{
			{Name: "vm-a", Addrs: []netip.Addr{addr(vmA), addr(vmA6)}, Ports: []snat.PortRange{{Frontend: addr(frontend), First: 1024, Count: 64}}},
			{Name: "node-b", Addrs: []netip.Addr{addr("10.0.0.5")}, Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
				Ports: []snat.PortRange{{Frontend: addr(frontend), First: 1088, Count: 64}}, Policy: &snat.Policy{IdleTimeout: time.Minute}},
		},
		Routes: []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress}},
		Policy: snat.Policy{IdleTimeout: 30 * time.Minute, Timeouts: flow.Timeouts{TCPReset: time.Second}, EnableTCPReset: true},
		Ports:  &snat.Owned{UDP: snat.Behavior{Share: snat.ShareNever}}, Dataplane: snat.Dataplane{Shards: 64, Seed: 7},
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, correct().Validate())
	require.NoError(t, snat.Config{}.Validate(), "nothing is a configuration too")
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			c := correct()
			m.make(&c)
			err := c.Validate()
			require.ErrorIs(t, err, m.is)
			assert.Contains(t, err.Error(), m.says)
			n, err2 := snat.New(c)
			assert.Nil(t, n)
			assert.Equal(t, err, err2, "New says the same")
		})
	}
}

// One error names all problems.
func TestValidateAllAtOnce(t *testing.T) {
	c := correct()
	var all []string
	kinds := map[error]bool{}
	for _, name := range []string{"no name", "no address", "host bits", "not a block", "protocol", "action", "negative idle timeout", "timeout of a class",
		"instance's timeout", "sharing", "negative shards"} {
		for _, m := range mistakes {
			if m.name == name {
				m.make(&c)
				kinds[m.is] = true
				if name != "not a block" { // the protocol is complained about first
					all = append(all, m.says)
				}
			}
		}
	}
	err := c.Validate()
	for _, says := range all {
		assert.ErrorContains(t, err, says)
	}
	delete(kinds, snat.ErrPorts)
	for kind := range kinds {
		assert.True(t, errors.Is(err, kind), "%v", kind)
	}
}

// However bad a configuration is, the error has an end.
func TestValidateIsBounded(t *testing.T) {
	var c snat.Config
	c.Instances = make([]snat.Instance, 10_000)
	assert.Less(t, len(c.Validate().Error()), 20_000)
}
