package nsg

import (
	"slices"
	"testing"
)

// Each field of a rule can be what does not fit, and is named.
func TestExplainNamesTheField(t *testing.T) {
	config := network(newRule("r", 100, Allow, func(r *SecurityRule) {
		r.Protocol, r.SourceAddressPrefixes, r.SourcePortRanges = TCP, []string{"198.51.100.0/24", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"}, []string{"1024-65535"}
		r.DestinationAddressPrefixes, r.DestinationPortRanges = []string{"10.0.0.4"}, []string{"80", "443"}
	}), newRule("any", 200, Allow, func(r *SecurityRule) {
		r.SourceAddressPrefixes, r.DestinationPortRanges = []string{"198.51.100.0/24"}, []string{"80"}
	}), newRule("out", 100, Deny, func(r *SecurityRule) { r.Direction = Outbound }))
	c := mustCompile(t, config)
	for _, tc := range []struct {
		flow  Flow
		rule  int
		field Field
		why   string
	}{
		{in("198.51.100.9:5000 > 10.0.0.4:443"), 0, NoField, ""},
		{in("udp 198.51.100.9:5000 > 10.0.0.4:443"), 0, ProtocolField, "protocol Udp is not Tcp"},
		{in("gre 198.51.100.9:5000 > 10.0.0.4:443"), 0, ProtocolField, "protocol 47 is not Tcp"},
		{in("192.0.2.9:5000 > 10.0.0.4:443"), 0, SourceAddressField, "source address 192.0.2.9 is not in 198.51.100.0/24, 192.0.2.1, 192.0.2.2, 192.0.2.3 and 2 more"},
		{in("198.51.100.9:22 > 10.0.0.4:443"), 0, SourcePortField, "source port 22 is not in 1024-65535"},
		{in("198.51.100.9:5000 > 10.0.0.5:443"), 0, DestinationAddressField, "destination address 10.0.0.5 is not in 10.0.0.4"},
		{in("198.51.100.9:5000 > 10.0.0.4:444"), 0, DestinationPortField, "destination port 444 is not in 80, 443"},
		{in("icmp 198.51.100.9:80 > 10.0.0.4:80"), 1, DestinationPortField, "protocol Icmp has no destination port"},
		{out("10.0.0.4:5000 > 169.254.169.254:80"), 0, DestinationAddressField, "destination address 169.254.169.254 is the platform's, on which only tags AzurePlatform... act"},
	} {
		e := c.Explain(tc.flow)
		if r := e.Stages[0].Rules[tc.rule]; r.Mismatch != tc.field || r.Why != tc.why {
			t.Errorf("%v: %v, %q, want %v, %q", tc.flow, r.Mismatch, r.Why, tc.field, tc.why)
		}
	}
}

// Rules of an explanation are copies.
func TestExplainGivesCopies(t *testing.T) {
	c := mustCompile(t, network(newRule("r", 100, Allow, nil)))
	f := in("203.0.113.9:1 > 10.0.0.4:80")
	c.Explain(f).Stages[0].Rules[0].Rule.SourceAddressPrefixes[0] = "changed"
	if got := c.Explain(f).Stages[0].Rules[0].Rule.SourceAddressPrefixes; !slices.Equal(got, []string{"*"}) {
		t.Errorf("got %q", got)
	}
}

// Both levels are shown, and what has no group.
func TestExplainText(t *testing.T) {
	config := network(newRule("r", 100, Allow, nil))
	config.NetworkSecurityGroups = append(config.NetworkSecurityGroups, NetworkSecurityGroup{Name: "nic"})
	config.NetworkInterfaces = []NetworkInterface{{"n", addrs("10.0.0.4"), "nic"}}
	c := mustCompile(t, config)
	config.WithoutGroup = Open
	open := mustCompile(t, config)
	for _, tc := range []struct {
		c    *Compiled
		flow Flow
		want string
	}{
		{c, in("icmp 203.0.113.9:1 > 20.50.1.1:80 at 10.0.0.4"), `Inbound Icmp 203.0.113.9 > 20.50.1.1 at 10.0.0.4: Deny
  subnet group g
    100 r: Allow
  interface group nic
    65000 AllowVNetInBound: no: source address 203.0.113.9 is not in VirtualNetwork
    65001 AllowAzureLoadBalancerInBound: no: source address 203.0.113.9 is not in AzureLoadBalancer
    65500 DenyAllInbound: Deny
`},
		{c, in("10.0.0.4:1 > 10.0.9.9:80"), `Inbound Tcp 10.0.0.4:1 > 10.0.9.9:80: Allow
  no group, default rules
    65000 AllowVNetInBound: Allow
`},
		{open, in("10.0.0.4:1 > 10.0.9.9:80"), `Inbound Tcp 10.0.0.4:1 > 10.0.9.9:80: Allow
  no group
`},
		{c, out("[fd00::4]:1 > [fe80::1]:80 at 10.0.0.4"), `Outbound Tcp [fd00::4]:1 > [fe80::1]:80 at 10.0.0.4: Deny
  interface group nic
    65000 AllowVnetOutBound: no: destination address fe80::1 is not in VirtualNetwork
    65001 AllowInternetOutBound: no: destination address fe80::1 is not in Internet
    65500 DenyAllOutBound: Deny
`},
		{c, out("10.0.0.5:1 > 168.63.129.16:53"), `Outbound Tcp 10.0.0.5:1 > 168.63.129.16:53: Allow
  subnet group g
    0 AzurePlatform: Allow
`},
	} {
		if got := tc.c.Explain(tc.flow).String(); got != tc.want {
			t.Errorf("got\n%swant\n%s", got, tc.want)
		}
	}
}
