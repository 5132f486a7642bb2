package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Flows are told apart by pod, also when a pod uses both families.
func TestCluster_observation(t *testing.T) {
	c := vnetCluster(t, nil)
	nodes := c.Nodes()
	busy, err := c.AddPod(nodes[0].Name, "busy")
	require.NoError(t, err)
	quiet, err := c.AddPod(nodes[1].Name, "quiet")
	require.NoError(t, err)
	send := func(src netip.Addr, port int, dst string) {
		v := c.Outbound(0, pkttest.UDP(endpoint(src.String(), port), dst, "x"))
		require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	}
	for i := range 3 {
		send(busy.Addrs[0], 5000+i, "198.51.100.9:53")
	}
	for i := range 2 {
		send(busy.Addrs[1], 5000+i, "[2001:db8:ffff::9]:53")
	}
	send(quiet.Addrs[0], 5000, "198.51.100.9:53")
	for i := range 2 {
		send(nodes[2].Addrs[0], 5000+i, "198.51.100.9:123")
	}

	require.Equal(t, []snat.PortUser{{Name: "busy", Ports: 5}, {Name: "10.1.0.6", Ports: 2}, {Name: "quiet", Ports: 1}}, c.TopPorts(9, snat.ByInside))
	require.Equal(t, []snat.PortUser{{Name: "busy", Ports: 5}}, c.TopPorts(1, snat.ByInside))
	require.Equal(t, []snat.PortUser{{Name: nodes[0].Name, Ports: 5}, {Name: nodes[2].Name, Ports: 2}}, c.TopPorts(2, snat.ByInstance))

	var sessions []string
	for s := range c.Sessions() {
		sessions = append(sessions, fmt.Sprintf("%s/%s > %s", s.Node, s.Pod, s.Remote.Addr()))
	}
	slices.Sort(sessions)
	require.Equal(t, []string{
		nodes[0].Name + "/busy > 198.51.100.9", nodes[0].Name + "/busy > 198.51.100.9", nodes[0].Name + "/busy > 198.51.100.9",
		nodes[0].Name + "/busy > 2001:db8:ffff::9", nodes[0].Name + "/busy > 2001:db8:ffff::9",
		nodes[1].Name + "/quiet > 198.51.100.9",
		nodes[2].Name + "/ > 198.51.100.9", nodes[2].Name + "/ > 198.51.100.9",
	}, sessions)
	for range c.Sessions() {
		break
	}

	require.Equal(t, 8, c.Stats().SessionsActive)
	require.Len(t, c.Allocations(), 3)
	require.Equal(t, nodes[1].Name, c.Allocations()[1].Instance)
	for i, s := range c.Instances() {
		require.Equal(t, nodes[i].Name, s.Name)
		require.EqualValues(t, []int{5, 1, 2}[i], s.Created)
	}
	used := 0
	for _, f := range c.Frontends() {
		used += f.Used
		require.Contains(t, []string{"20.50.1.1", "2001:db8:50:1::1"}, f.Frontend.String())
	}
	require.Equal(t, 8, used)

	require.NoError(t, c.RemovePod("busy"))
	require.Equal(t, []snat.PortUser{{Name: "10.244.0.2", Ports: 3}}, c.TopPorts(1, snat.ByInside), "flows outlive their pod")
}

func TestCluster_hooks(t *testing.T) {
	var created []string
	c := vnetCluster(t, func(c *ClusterConfig) {
		c.Hooks.SessionCreated = func(_ flow.Time, instance uint32, s flow.Info) {
			created = append(created, fmt.Sprint(instance, " ", s.Inside))
		}
	})
	c.Outbound(0, pkttest.UDP("10.244.2.9:4000", "198.51.100.9:53", "x"))
	require.Equal(t, []string{"2 10.244.2.9:4000"}, created)
}

func TestCluster_udpShareNever(t *testing.T) {
	c := vnetCluster(t, func(c *ClusterConfig) {
		c.UDP.Share = snat.ShareNever
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 8}
	})
	for i := range 9 {
		v := c.Outbound(0, pkttest.UDP(fmt.Sprint("10.244.0.2:", 5000+i), fmt.Sprintf("198.51.100.%d:53", i+1), "x"))
		require.Equal(t, i < 8, v.Action == flow.Forward, "flow %d: %v", i, v.Reason)
	}
}
