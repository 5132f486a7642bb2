package lb

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A machine with a public IP in the pool of an outbound rule: its address, its port.
// The rule serves the other.
func TestAzure_40_public_ip_and_outbound_rule_at_run_time(t *testing.T) {
	c := publicPool(2, 1, 0)
	c.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
	l := newLoadBalancer(t, c)
	p := pkttest.TCP("10.224.0.4:41000", "203.0.113.80:443", pkttest.TCPFlags("S"))
	require.Equal(t, flow.Forward, l.Outbound(0, p).Action)
	pkttest.Check(t, p, pkttest.Src("20.99.0.1:41000"), pkttest.ChecksumsOK())
	answer := pkttest.TCP("203.0.113.80:443", "20.99.0.1:41000", pkttest.TCPFlags("SA"))
	require.Equal(t, flow.Forward, l.Inbound(0, answer).Action)
	pkttest.Check(t, answer, pkttest.Dst("10.224.0.4:41000"), pkttest.ChecksumsOK())

	p = pkttest.TCP("10.224.0.5:41000", "203.0.113.80:443", pkttest.TCPFlags("S"))
	require.Equal(t, flow.Forward, l.Outbound(0, p).Action)
	pkttest.Check(t, p, pkttest.Src("20.50.1.1:1024"))
	a := l.Allocations()
	assert.Empty(t, a[0].Ports)
	assert.Equal(t, 1024, a[1].Total(snat.TCP, false))

	e := newEgress(t, EgressConfig{LoadBalancer: c})
	assert.Equal(t, InstancePublicIP, decide(t, e, "node0").Option)
	assert.Equal(t, c.Backends[0].PublicIPAddresses, decide(t, e, "node0").Addrs)
	assert.Equal(t, OutboundRuleSNAT, decide(t, e, "node1").Option)
}

// It counts in the size of its pool, and is one of the group for default outbound
// access.
func TestPublicIPCountsInThePool(t *testing.T) {
	c := publicPool(51, 1, 0)
	for i := range 30 {
		c.Backends[i].PublicIPAddresses = []netip.Addr{netip.AddrFrom4([4]byte{20, 99, 0, byte(i)})}
	}
	plan, err := c.Plan()
	require.NoError(t, err)
	assert.Empty(t, plan[0].Ports)
	assert.Equal(t, 512, plan[50].Total(snat.UDP, false))

	basic := basicCluster(2, "A")
	basic.LoadBalancer.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
	e := newEgress(t, basic)
	assert.Equal(t, netip.MustParseAddr("20.99.0.1"), leaves(t, e, 0, "10.224.0.4:5000"))
	assert.Equal(t, netip.MustParseAddr("20.50.1.65"), leaves(t, e, 0, "10.224.0.5:5000"))

	// The last Service goes: only the machine without public IP needs another way.
	c = basicCluster(2).LoadBalancer
	c.Backends[0].PublicIPAddresses = basic.LoadBalancer.Backends[0].PublicIPAddresses
	update(t, e, time.Second, EgressConfig{LoadBalancer: c})
	assert.Equal(t, netip.MustParseAddr("20.99.0.1"), leaves(t, e, time.Second, "10.224.0.4:5001"))
	assert.True(t, DefaultOutboundRange.Contains(leaves(t, e, time.Second, "10.224.0.5:5001")))
}

func TestPublicIPIsValidated(t *testing.T) {
	addrs := func(all ...string) (parsed []netip.Addr) {
		for _, a := range all {
			parsed = append(parsed, netip.MustParseAddr(a))
		}
		return parsed
	}
	for _, tt := range []struct {
		name     string
		public   []netip.Addr
		sentinel error
		want     string
	}{
		{"not a host", addrs("224.0.0.1"), flow.ErrAddress, "Backends[0].PublicIPAddresses[0] 224.0.0.1"},
		{"zero", make([]netip.Addr, 1), flow.ErrAddress, "Backends[0].PublicIPAddresses[0] invalid IP"},
		{"two of a family", addrs("20.99.0.1", "20.99.0.2"), flow.ErrTooMany, "Backends[0].PublicIPAddresses[1] 20.99.0.2: too many: one address"},
		{"family without address", addrs("2001:db8::1"), flow.ErrMissing, "Backends[0].PublicIPAddresses[0] 2001:db8::1: missing"},
		{"a frontend", addrs("20.50.1.1"), flow.ErrOverlap, "Backends[0].PublicIPAddresses[0] 20.50.1.1/32: overlap: with FrontendIPConfigurations[0].PublicIPAddress"},
		{"its own", addrs("10.224.0.4"), flow.ErrOverlap, "Backends[0].PublicIPAddresses[0] 10.224.0.4/32: overlap: with Backends[0].Addrs[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := publicPool(1, 1, 0)
			c.Backends[0].PublicIPAddresses = tt.public
			assert.ErrorIs(t, c.Validate(), tt.sentinel)
			assert.ErrorContains(t, c.Validate(), tt.want)
		})
	}
}
