package overlay_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A cluster of two node pools, and where its addresses come from.
func ExampleNew() {
	cluster, err := overlay.New(overlay.ClusterConfig{
		IPFamilies: "ipv4,ipv6",
		NodePools:  []overlay.NodePool{{Name: "system", Count: 1}, {Name: "user", Count: 2, MaxPods: 110}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	for _, n := range cluster.Nodes() {
		fmt.Println(n.Name, n.Addrs, n.PodBlocks, n.MaxPods)
	}
	// Output:
	// aks-system-vmss000000 [10.224.0.4 fd12:3456:789b::4] [10.244.0.0/24 fd12:3456:789a::/80] 250
	// aks-user-vmss000000 [10.224.0.5 fd12:3456:789b::5] [10.244.1.0/24 fd12:3456:789a:0:1::/80] 110
	// aks-user-vmss000001 [10.224.0.6 fd12:3456:789b::6] [10.244.2.0/24 fd12:3456:789a:0:2::/80] 110
}

// All problems of a configuration are reported at once.
func ExampleClusterConfig_Validate() {
	err := overlay.ClusterConfig{
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/23")},
		NodePools: []overlay.NodePool{{Count: 3, MaxPods: 500}},
		LoadBalancerProfile: overlay.LoadBalancerProfile{
			ManagedOutboundIPCount: 101,
			AllocatedOutboundPorts: 12,
		},
	}.Validate()
	fmt.Println(err)
	// Output:
	// LoadBalancerProfile.AllocatedOutboundPorts 12: not a multiple of 8: valid are 0 (automatic) and 8..64000 in steps of 8
	// LoadBalancerProfile.ManagedOutboundIPCount 101: out of range: 1..100
	// NodePools[0].MaxPods 500: out of range: 10..250
	// PodCIDRs[0] 10.244.0.0/23: too many nodes: has room for the pod blocks of 2 nodes, NodePools may have 3
}

// Before Azure says it: the outbound IPs do not have the ports that the nodes,
// and one more during upgrades, are to get.
func ExampleClusterConfig_Validate_ports() {
	err := overlay.ClusterConfig{
		NodePools:           []overlay.NodePool{{Count: 3}},
		LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 21_000},
	}.Validate()
	fmt.Println(err)
	// Output:
	// LoadBalancerProfile.AllocatedOutboundPorts (IPv4): InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): 21000 allocated ports for a total node count of 4 require 84000 ports, but only 64000 are available on 1 outbound public IPs
}

// A pod asks a name server on the Internet; the answer finds its way back.
func ExampleCluster_Outbound() {
	cluster, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 2}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	pod, err := cluster.AddPod(cluster.Nodes()[1].Name, "resolver")
	if err != nil {
		fmt.Println(err)
		return
	}
	query := pkttest.UDP(fmt.Sprint(pod.Addrs[0], ":41000"), "198.51.100.53:53", "A example.com?")
	fmt.Println(cluster.Outbound(0, query).Action, pkttest.String(query))

	answer := pkttest.UDP("198.51.100.53:53", "20.50.1.1:2048", "203.0.113.1")
	v := cluster.Inbound(flow.At(20_000_000), answer)
	fmt.Println(v.Action, v.To, pkttest.String(answer))
	owner, _ := cluster.PodByAddr(netip.AddrFrom4([4]byte(answer[16:20])))
	fmt.Println("for", owner.Name, "on", owner.Node)
	// Output:
	// forward UDP 20.50.1.1:2048 > 198.51.100.53:53 len=14
	// forward inside UDP 198.51.100.53:53 > 10.244.1.2:41000 len=11
	// for resolver on aks-nodepool1-vmss000001
}

func ExampleCluster_AddPod() {
	cluster, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	node := cluster.Nodes()[0].Name
	for _, name := range []string{"web-0", "web-1", "web-0"} {
		pod, err := cluster.AddPod(node, name)
		fmt.Println(pod.Addrs, err)
	}
	// Output:
	// [10.244.0.2] <nil>
	// [10.244.0.3] <nil>
	// [] pod "web-0": duplicate name
}

// The same traffic on three network plugins, and the source that its receiver sees: what a
// firewall in the virtual network or beyond has to allow.
func ExampleClusterConfig_networkPlugin() {
	for _, plugin := range []cni.Plugin{cni.Overlay, cni.Kubenet, cni.NodeSubnet} {
		cluster, err := overlay.New(overlay.ClusterConfig{
			NetworkPlugin: plugin,
			NodePools:     []overlay.NodePool{{Count: 2}},
			VNet: overlay.VNet{
				AddressSpaces:  []netip.Prefix{netip.MustParsePrefix("10.224.0.0/12")},
				Subnets:        []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/24")}}},
				PeeredPrefixes: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")},
			},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer cluster.Close()
		nodes := cluster.Nodes()
		client, _ := cluster.AddPod(nodes[0].Name, "client")
		server, _ := cluster.AddPod(nodes[1].Name, "server")
		fmt.Printf("%v: pod %v on node %v\n", plugin, client.Addrs[0], nodes[0].Addrs[0])
		for _, to := range []struct{ name, addr string }{
			{"pod", server.Addrs[0].String()}, {"other node", nodes[1].Addrs[0].String()}, {"VNet", "10.225.0.9"},
			{"peered", "192.168.3.4"}, {"Internet", "198.51.100.9"},
		} {
			pkt := pkttest.TCP(client.Addrs[0].String()+":41000", to.addr+":443", pkttest.SYN)
			cluster.Outbound(0, pkt)
			fmt.Printf("  %-10s sees %v\n", to.name, netip.AddrFrom4([4]byte(pkt[12:16])))
		}
	}
	// Output:
	// overlay: pod 10.244.0.2 on node 10.224.0.4
	//   pod        sees 10.244.0.2
	//   other node sees 10.224.0.4
	//   VNet       sees 10.224.0.4
	//   peered     sees 10.224.0.4
	//   Internet   sees 20.50.1.1
	// kubenet: pod 10.244.0.2 on node 10.224.0.4
	//   pod        sees 10.244.0.2
	//   other node sees 10.224.0.4
	//   VNet       sees 10.224.0.4
	//   peered     sees 10.224.0.4
	//   Internet   sees 20.50.1.1
	// nodeSubnet: pod 10.224.0.5 on node 10.224.0.4
	//   pod        sees 10.224.0.5
	//   other node sees 10.224.0.5
	//   VNet       sees 10.224.0.5
	//   peered     sees 10.224.0.4
	//   Internet   sees 20.50.1.1
}

// A copy of a running cluster answers what would happen: here, that pods of a third node would leave with the
// same address, while the cluster goes on with two.
func ExampleCluster_Fork() {
	c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "p", Count: 2}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	what, err := c.Fork(overlay.Ties{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer what.Close()
	if _, _, err := what.AddNodes(0, "p", 1); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(c.Nodes()), "and", len(what.Nodes()), "nodes")
	// Output:
	// 2 and 3 nodes
}

// Who holds the ports of a node, by pod address: overlay/attribution gives the addresses their names.
func ExampleCluster_Holders() {
	cluster, err := overlay.New(overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Count: 1}},
		Dataplane: snat.Dataplane{CountHolders: snat.CountHolders{On: true}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	for i, connections := range []int{3, 5} {
		pod, err := cluster.AddPod(cluster.Nodes()[0].Name, fmt.Sprint("web-", i))
		if err != nil {
			fmt.Println(err)
			return
		}
		for c := range connections {
			cluster.Outbound(0, pkttest.TCP(fmt.Sprintf("%v:%d", pod.Addrs[0], 41000+c), "203.0.113.80:443", pkttest.SYN))
		}
	}
	for _, h := range cluster.Holders(0, snat.HoldersByInside).Rows {
		fmt.Println(h.Inside, "on", h.Instance, "holds", h.Ports)
	}
	// Output:
	// 10.244.0.3 on aks-nodepool1-vmss000000 holds 5
	// 10.244.0.2 on aks-nodepool1-vmss000000 holds 3
}
