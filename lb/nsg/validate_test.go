package nsg

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
)

// valid is a configuration in which every field is set.
func valid() Config {
	return Config{
		VirtualNetwork:            prefixList("10.0.0.0/16"),
		ServiceTags:               []ServiceTag{{"Sql", prefixList("203.0.113.0/24")}},
		ApplicationSecurityGroups: []ApplicationSecurityGroup{{"web", addrs("10.0.0.4")}},
		NetworkSecurityGroups: []NetworkSecurityGroup{{"g", []SecurityRule{{
			Name: "r", Priority: 100, Direction: Inbound, Access: Allow, Protocol: TCP,
			SourceAddressPrefixes: []string{"198.51.100.0/24", "203.0.113.9"}, SourcePortRanges: []string{"*"},
			DestinationApplicationSecurityGroups: []string{"web"}, DestinationPortRanges: []string{"80", "1000-2000"},
		}}}},
		Subnets:           []Subnet{{"s", prefixList("10.0.0.0/24"), "g"}},
		NetworkInterfaces: []NetworkInterface{{"n", addrs("10.0.0.4"), "g"}},
	}
}

func TestValidate(t *testing.T) {
	ruled := func(change func(*SecurityRule)) func(*Config) {
		return func(c *Config) { change(&c.NetworkSecurityGroups[0].SecurityRules[0]) }
	}
	sources := func(texts ...string) func(*Config) {
		return ruled(func(r *SecurityRule) { r.SourceAddressPrefixes = texts })
	}
	const rule, mapped = "NetworkSecurityGroups[0].SecurityRules[0]", "::ffff:10.0.0.4"
	const source = rule + ".SourceAddressPrefixes"
	for _, tc := range []struct {
		change func(*Config)
		path   string // and the value
		kind   error
		code   string // Azure's
	}{
		{func(c *Config) { c.VirtualNetwork = append(c.VirtualNetwork, netip.Prefix{}) }, "VirtualNetwork[1] invalid Prefix", flow.ErrPrefix, ""},
		{func(c *Config) { c.VirtualNetwork[0] = netip.MustParsePrefix("10.0.0.1/16") }, "VirtualNetwork[0] 10.0.0.1/16", flow.ErrPrefix, ""},
		{func(c *Config) { c.WithoutGroup = 2 }, "WithoutGroup 2", flow.ErrOutOfRange, ""},

		{func(c *Config) { c.ServiceTags[0].Name = "" }, "ServiceTags[0].Name \"\"", flow.ErrMissing, ""},
		{func(c *Config) { c.ServiceTags[0].Name = "Internet" }, "ServiceTags[0].Name \"Internet\"", flow.ErrDuplicateName, ""},
		{func(c *Config) { c.ServiceTags[0].Name = "any" }, "ServiceTags[0].Name \"any\"", flow.ErrSyntax, ""},
		{func(c *Config) { c.ServiceTags[0].Name = "1.2.3.4" }, "ServiceTags[0].Name \"1.2.3.4\"", flow.ErrSyntax, ""},
		{func(c *Config) { c.ServiceTags = append(c.ServiceTags, c.ServiceTags[0]) }, "ServiceTags[1].Name \"Sql\"", flow.ErrDuplicateName, ""},
		{func(c *Config) { c.ServiceTags[0].Prefixes[0] = netip.Prefix{} }, "ServiceTags[0].Prefixes[0] invalid Prefix", flow.ErrPrefix, ""},

		{func(c *Config) { c.ApplicationSecurityGroups = make([]ApplicationSecurityGroup, 3001) }, "ApplicationSecurityGroups has 3001 elements", flow.ErrTooMany, ""},
		{func(c *Config) {
			c.ApplicationSecurityGroups = append(c.ApplicationSecurityGroups, c.ApplicationSecurityGroups[0])
		}, "ApplicationSecurityGroups[1].Name \"web\"", flow.ErrDuplicateName, ""},
		{func(c *Config) { c.ApplicationSecurityGroups[0].Addrs[0] = netip.Addr{} }, "ApplicationSecurityGroups[0].Addrs[0] invalid IP", flow.ErrAddress, ""},
		{func(c *Config) { c.ApplicationSecurityGroups[0].Addrs = addrs("10.0.0.4", "10.0.0.4") }, "ApplicationSecurityGroups[0].Addrs[1] 10.0.0.4", flow.ErrOverlap, ""},
		{func(c *Config) { c.ApplicationSecurityGroups[0].Addrs = many(4001) }, "ApplicationSecurityGroups[0].Addrs has 4001 addresses", flow.ErrTooMany, ""},
		{func(c *Config) {
			for i := range 20 {
				c.ApplicationSecurityGroups = append(c.ApplicationSecurityGroups, ApplicationSecurityGroup{fmt.Sprint("a", i), addrs("10.0.0.4")})
			}
		}, "ApplicationSecurityGroups[20].Addrs[0] 10.0.0.4", flow.ErrTooMany, ""},

		{func(c *Config) { c.NetworkSecurityGroups = make([]NetworkSecurityGroup, 5001) }, "NetworkSecurityGroups has 5001 elements", flow.ErrTooMany, ""},
		{func(c *Config) { c.NetworkSecurityGroups[0].Name = "" }, "NetworkSecurityGroups[0].Name \"\"", flow.ErrMissing, ""},
		{func(c *Config) { c.NetworkSecurityGroups[0].SecurityRules = distinct(1001) }, "NetworkSecurityGroups[0].SecurityRules has 1001 elements", flow.ErrTooMany, ""},
		{sources(manyTexts(4001)...), "NetworkSecurityGroups[0].SecurityRules has 4001 source prefixes", flow.ErrTooMany, ""},
		{ruled(func(r *SecurityRule) {
			r.DestinationAddressPrefixes, r.DestinationApplicationSecurityGroups = manyTexts(4001), nil
		}), "NetworkSecurityGroups[0].SecurityRules has 4001 destination prefixes", flow.ErrTooMany, ""},
		{func(c *Config) {
			c.NetworkSecurityGroups[0].SecurityRules = distinct(11)
			for i := range 101 {
				name := fmt.Sprint("a", i)
				c.ApplicationSecurityGroups = append(c.ApplicationSecurityGroups, ApplicationSecurityGroup{Name: name})
				r := &c.NetworkSecurityGroups[0].SecurityRules[i/10]
				r.SourceAddressPrefixes, r.SourceApplicationSecurityGroups = nil, append(r.SourceApplicationSecurityGroups, name)
			}
		}, "NetworkSecurityGroups[0].SecurityRules has 101 application security groups", flow.ErrTooMany, ""},

		{ruled(func(r *SecurityRule) { r.Name = "" }), rule + ".Name \"\"", flow.ErrMissing, ""},
		{ruled(func(r *SecurityRule) { r.Name = "a b" }), rule + ".Name \"a b\"", flow.ErrSyntax, ""},
		{ruled(func(r *SecurityRule) { r.Name = "-a" }), rule + ".Name \"-a\"", flow.ErrSyntax, ""},
		{ruled(func(r *SecurityRule) { r.Name = "a." }), rule + ".Name \"a.\"", flow.ErrSyntax, ""},
		{ruled(func(r *SecurityRule) { r.Name = "é" }), rule + ".Name \"é\"", flow.ErrSyntax, ""},
		{ruled(func(r *SecurityRule) { r.Name = strings.Repeat("a", 81) }), rule + ".Name \"aaaa", flow.ErrSyntax, ""},
		{ruled(func(r *SecurityRule) { r.Name = "denyallinbound" }), rule + ".Name \"denyallinbound\"", flow.ErrDuplicateName, ""},
		{func(c *Config) {
			g := &c.NetworkSecurityGroups[0]
			g.SecurityRules = append(g.SecurityRules, g.SecurityRules[0])
			g.SecurityRules[1].Name, g.SecurityRules[1].Priority = "R", 200
		}, "NetworkSecurityGroups[0].SecurityRules[1].Name \"R\"", flow.ErrDuplicateName, ""},
		{func(c *Config) {
			g := &c.NetworkSecurityGroups[0]
			g.SecurityRules = append(g.SecurityRules, g.SecurityRules[0])
			g.SecurityRules[1].Name = "q"
		}, "NetworkSecurityGroups[0].SecurityRules[1].Priority 100", flow.ErrConflict, "SecurityRuleConflict"},
		{ruled(func(r *SecurityRule) { r.Priority = 99 }), rule + ".Priority 99", flow.ErrOutOfRange, ""},
		{ruled(func(r *SecurityRule) { r.Priority = 4097 }), rule + ".Priority 4097", flow.ErrOutOfRange, ""},
		{ruled(func(r *SecurityRule) { r.Direction = 2 }), rule + ".Direction 2", flow.ErrOutOfRange, ""},
		{ruled(func(r *SecurityRule) { r.Access = 2 }), rule + ".Access 2", flow.ErrOutOfRange, ""},
		{ruled(func(r *SecurityRule) { r.Protocol = 6 }), rule + ".Protocol 6", flow.ErrOutOfRange, ""},

		{sources(), source, flow.ErrMissing, ""},
		{sources(""), source + "[0] \"\"", flow.ErrSyntax, "SecurityRuleInvalidAddressPrefix"},
		{sources("10.0.0.0/33"), source + "[0] \"10.0.0.0/33\"", flow.ErrPrefix, "SecurityRuleInvalidAddressPrefix"},
		{sources("10.0.0.1/8"), source + "[0] \"10.0.0.1/8\"", flow.ErrPrefix, "did you mean 10.0.0.0/8"},
		{sources(mapped), source + "[0] \"" + mapped + "\"", flow.ErrAddress, "SecurityRuleInvalidAddressPrefix"},
		{sources(mapped + "/128"), source + "[0] \"" + mapped + "/128\"", flow.ErrPrefix, "SecurityRuleInvalidAddressPrefix"},
		{sources("fe80::1%eth0"), source + "[0] \"fe80::1%eth0\"", flow.ErrAddress, "SecurityRuleInvalidAddressPrefix"},
		{sources("10.0.0.1-10.0.0.9"), source + "[0] \"10.0.0.1-10.0.0.9\"", flow.ErrSyntax, "SecurityRuleInvalidAddressPrefix"},
		{sources("Storage"), source + "[0] \"Storage\"", flow.ErrUnknownName, ""},
		{sources("AzurePlatform"), source + "[0] \"AzurePlatform\"", flow.ErrUnknownName, ""},
		{sources("10.0.0.0/8", "Sql"), source + "[1] \"Sql\"", flow.ErrConflict, "SecurityRuleParameterContainsUnsupportedValue"},
		{sources("*", "10.0.0.0/8"), source + "[0] \"*\"", flow.ErrConflict, "SecurityRuleParameterContainsUnsupportedValue"},
		{sources("10.0.0.0/8", "fd00::/8"), source + "[1] \"fd00::/8\"", flow.ErrConflict, "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies"},
		{sources("10.0.0.0/8", "10.1.0.0/16"), source + "[1] \"10.1.0.0/16\"", flow.ErrOverlap, "OverlappingSubnetsNotPermittedInSecurityRule"},
		{sources("10.1.0.0/16", "10.2.0.0/16", "10.0.0.0/8"), source + "[0] \"10.1.0.0/16\"", flow.ErrOverlap, "OverlappingSubnetsNotPermittedInSecurityRule"},
		{sources("10.1.0.9", "10.1.0.9/32"), source + "[1] \"10.1.0.9/32\"", flow.ErrOverlap, "OverlappingSubnetsNotPermittedInSecurityRule"},
		{ruled(func(r *SecurityRule) {
			r.DestinationAddressPrefixes, r.DestinationApplicationSecurityGroups = []string{"fd00::/8"}, nil
		}), rule + ".DestinationAddressPrefixes \"fd00::/8\"", flow.ErrConflict, "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies"},
		{ruled(func(r *SecurityRule) { r.DestinationAddressPrefixes = []string{"*"} }), rule + ".DestinationApplicationSecurityGroups [web]", flow.ErrConflict, ""},
		{ruled(func(r *SecurityRule) { r.DestinationApplicationSecurityGroups[0] = "db" }), rule + ".DestinationApplicationSecurityGroups[0] \"db\"", flow.ErrUnknownName, ""},
		{ruled(func(r *SecurityRule) { r.DestinationApplicationSecurityGroups = []string{"web", "web"} }), rule + ".DestinationApplicationSecurityGroups[1] \"web\"", flow.ErrDuplicateName, ""},
		{ruled(func(r *SecurityRule) { r.DestinationApplicationSecurityGroups = make([]string, 11) }), rule + ".DestinationApplicationSecurityGroups has 11 elements", flow.ErrTooMany, ""},

		{ruled(func(r *SecurityRule) { r.DestinationPortRanges = nil }), rule + ".DestinationPortRanges", flow.ErrMissing, ""},
		{ruled(func(r *SecurityRule) { r.DestinationPortRanges[1] = "2000-1000" }), rule + ".DestinationPortRanges[1] \"2000-1000\"", flow.ErrOutOfRange, "SecurityRuleInvalidPortRange"},
		{ruled(func(r *SecurityRule) { r.DestinationPortRanges[1] = "65536" }), rule + ".DestinationPortRanges[1] \"65536\"", flow.ErrSyntax, "SecurityRuleInvalidPortRange"},
		{ruled(func(r *SecurityRule) { r.SourcePortRanges[0] = "+80" }), rule + ".SourcePortRanges[0] \"+80\"", flow.ErrSyntax, "SecurityRuleInvalidPortRange"},
		{ruled(func(r *SecurityRule) { r.SourcePortRanges[0] = "80,81" }), rule + ".SourcePortRanges[0] \"80,81\"", flow.ErrSyntax, "SecurityRuleInvalidPortRange"},
		{ruled(func(r *SecurityRule) { r.SourcePortRanges = []string{"80", "*"} }), rule + ".SourcePortRanges[1] \"*\"", flow.ErrConflict, ""},
		{ruled(func(r *SecurityRule) { r.Protocol = ICMP }), rule + ".DestinationPortRanges[0] \"80\"", flow.ErrOutOfRange, ""},

		{func(c *Config) { c.Subnets[0].Name = "" }, "Subnets[0].Name \"\"", flow.ErrMissing, ""},
		{func(c *Config) { c.Subnets[0].AddressPrefixes = nil }, "Subnets[0].AddressPrefixes", flow.ErrMissing, ""},
		{func(c *Config) { c.Subnets[0].AddressPrefixes = prefixList("10.0.0.1/24") }, "Subnets[0].AddressPrefixes[0] 10.0.0.1/24", flow.ErrPrefix, ""},
		{func(c *Config) { c.Subnets = append(c.Subnets, Subnet{"t", prefixList("10.0.0.128/25"), ""}) }, "Subnets[1].AddressPrefixes[0] 10.0.0.128/25", flow.ErrOverlap, ""},
		{func(c *Config) { c.Subnets[0].NetworkSecurityGroup = "h" }, "Subnets[0].NetworkSecurityGroup \"h\"", flow.ErrUnknownName, ""},
		{func(c *Config) { c.NetworkInterfaces[0].Name = "" }, "NetworkInterfaces[0].Name \"\"", flow.ErrMissing, ""},
		{func(c *Config) { c.NetworkInterfaces[0].Addrs = nil }, "NetworkInterfaces[0].Addrs", flow.ErrMissing, ""},
		{func(c *Config) { c.NetworkInterfaces[0].Addrs[0] = netip.IPv6Unspecified() }, "NetworkInterfaces[0].Addrs[0] ::", flow.ErrAddress, ""},
		{func(c *Config) {
			c.NetworkInterfaces = append(c.NetworkInterfaces, NetworkInterface{"m", addrs("10.0.0.4"), ""})
		}, "NetworkInterfaces[1].Addrs[0] 10.0.0.4", flow.ErrOverlap, ""},
		{func(c *Config) { c.NetworkInterfaces[0].NetworkSecurityGroup = "h" }, "NetworkInterfaces[0].NetworkSecurityGroup \"h\"", flow.ErrUnknownName, ""},
	} {
		c := valid()
		tc.change(&c)
		err := c.Validate()
		if !errors.Is(err, tc.kind) {
			t.Errorf("%s: got %v, want %v", tc.path, err, tc.kind)
			continue
		}
		found := false
		for _, line := range strings.Split(err.Error(), "\n") {
			found = found || strings.HasPrefix(line, tc.path) && strings.Contains(line, tc.kind.Error()) && strings.Contains(line, tc.code)
		}
		if !found {
			t.Errorf("want a problem %s: %v: %s, got\n%v", tc.path, tc.kind, tc.code, err)
		}
		if _, err := Compile(c); err == nil {
			t.Errorf("%s: compiled", tc.path)
		}
	}
	c := valid()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// many returns so many addresses.
func many(n int) (all []netip.Addr) {
	for a := netip.MustParseAddr("10.0.0.1"); len(all) < n; a = a.Next() {
		all = append(all, a)
	}
	return all
}

func manyTexts(n int) (texts []string) {
	for _, a := range many(n) {
		texts = append(texts, a.String())
	}
	return texts
}

// distinct returns so many rules.
func distinct(n int) (rules []SecurityRule) {
	for i := range n {
		rules = append(rules, newRule(fmt.Sprint("r", i), 100+i, Allow, nil))
	}
	return rules
}

func TestAllProblemsComeAtOnce(t *testing.T) {
	c := valid()
	c.VirtualNetwork[0] = netip.Prefix{}
	c.Subnets[0].NetworkSecurityGroup = "h"
	r := &c.NetworkSecurityGroups[0].SecurityRules[0]
	r.Priority, r.SourceAddressPrefixes[1], r.DestinationPortRanges[0] = 5000, "203.0.113.9/33", "http"
	const want = `NetworkSecurityGroups[0].SecurityRules[0].DestinationPortRanges[0] "http": cannot be read: SecurityRuleInvalidPortRange: want a port, two of 0..65535 as in 1000-2000, or *
NetworkSecurityGroups[0].SecurityRules[0].Priority 5000: out of range: 100..4096
NetworkSecurityGroups[0].SecurityRules[0].SourceAddressPrefixes[1] "203.0.113.9/33": prefix is not valid, or its host bits are not zero: SecurityRuleInvalidAddressPrefix: want a prefix such as 10.0.0.0/8
Subnets[0].NetworkSecurityGroup "h": unknown name: no network security group has this name
VirtualNetwork[0] invalid Prefix: prefix is not valid, or its host bits are not zero: want an IPv4 or IPv6 prefix, not IPv4-mapped`
	if _, err := Compile(c); fmt.Sprint(err) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// The largest configuration that Azure takes compiles.
func TestLimits(t *testing.T) {
	c := network(distinct(1000)...)
	rules := c.NetworkSecurityGroups[0].SecurityRules
	for i, a := range many(4000) {
		r := &rules[i%1000]
		if i < 1000 {
			r.SourceAddressPrefixes, r.DestinationAddressPrefixes = nil, nil
		}
		r.SourceAddressPrefixes = append(r.SourceAddressPrefixes, a.String())
		r.DestinationAddressPrefixes = append(r.DestinationAddressPrefixes, a.String())
	}
	rules[0].Name = strings.Repeat("a", 80)
	compiled := mustCompile(t, c)
	want(t, compiled, in("10.0.15.160:1 > 10.0.0.232:1 at 10.0.0.4"), "Allow AllowVNetInBound")
	want(t, compiled, in("10.0.15.160:1 > 10.0.11.184:1 at 10.0.0.4"), "Allow r999")
}

func TestParse(t *testing.T) {
	for d := range numDirections {
		if got, err := ParseDirection(strings.ToUpper(d.String())); got != d || err != nil {
			t.Error(d, got, err)
		}
	}
	for a := range numAccesses {
		if got, err := ParseAccess(strings.ToLower(a.String())); got != a || err != nil {
			t.Error(a, got, err)
		}
	}
	for p := range numProtocols {
		if got, err := ParseProtocol(strings.ToUpper(p.String())); got != p || err != nil {
			t.Error(p, got, err)
		}
	}
	if got, err := ParseProtocol("any"); got != Any || err != nil {
		t.Error(got, err)
	}
	if _, err := ParseProtocol("Sctp"); !errors.Is(err, flow.ErrSyntax) || err.Error() != `protocol "Sctp": cannot be read: want one of *, Tcp, Udp, Icmp, Esp, Ah` {
		t.Error(err)
	}
	if _, err := ParseAccess(""); !errors.Is(err, flow.ErrSyntax) {
		t.Error(err)
	}
	if _, err := ParseDirection("in"); !errors.Is(err, flow.ErrSyntax) {
		t.Error(err)
	}
}
