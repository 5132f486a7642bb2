package story

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func hostsOf(texts ...string) (hosts []netip.Addr) {
	for _, s := range texts {
		a, _ := netip.ParseAddr(s) // the zero Addr for "": of a damaged packet
		hosts = append(hosts, a)
	}
	return hosts
}

func TestPlacement(t *testing.T) {
	many := make([]netip.Addr, 600)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i / 300), byte(i % 300 / 2)})
	}
	for _, tt := range []struct {
		name         string
		hosts        []netip.Addr
		given        options // 0 is not given
		nodes, pods  int
		want         []int
		how, nameOf0 string
	}{
		{"one network", hostsOf("10.0.0.9", "10.0.0.7"), options{}, 1, 2, []int{0, 1}, "2 hosts of the capture, each a pod of the same node", "10.0.0.9"},
		{"two networks", hostsOf("10.0.1.9", "10.0.2.7", "10.0.1.3"), options{}, 2, 2, []int{0, 2, 1}, "3 hosts of the capture, each a pod, those of one /24 (IPv6: /64) on one of 2 nodes", "10.0.1.9"},
		{"dual-stack", hostsOf("10.0.1.9", "fd00:0:0:1::9", "10.0.2.7", "fd00:0:0:2::7"), options{}, 2, 2, []int{0, 1, 2, 3}, "of 2 nodes", "10.0.1.9"},
		{"IPv6 alone", hostsOf("fd00:0:0:1::9", "fd00:0:0:2::7"), options{}, 2, 1, []int{0, 1}, "of 2 nodes", "fd00:0:0:1::9"},
		{"one network, three nodes", hostsOf("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"), options{nodes: 3}, 3, 2, []int{0, 2, 4, 1}, "dealt to the nodes in turn", "10.0.0.1"},
		{"three networks, two nodes", hostsOf("10.0.0.1", "10.0.1.1", "10.0.2.1"), options{nodes: 2}, 2, 2, []int{0, 2, 1}, "those of one /24 (IPv6: /64) on one node", "10.0.0.1"},
		{"fewer pods than hosts", hostsOf("10.0.0.1", "10.0.0.2", "10.0.0.3"), options{podsPerNode: 2}, 1, 2, []int{0, 1, 0}, "; up to 2 hosts share one", "10.0.0.1 and 1 more"},
		{"more pods than hosts", hostsOf("10.0.0.1"), options{podsPerNode: 8}, 1, 8, []int{0}, "1 host of the capture", "10.0.0.1"},
		{"clients from outside", hostsOf("198.51.100.4", "10.0.1.9", "203.0.113.7"), options{}, 1, 3, []int{0, 1, 2}, "each a pod of the same node", "198.51.100.4"},
		{"a damaged packet", hostsOf("", "10.0.0.1"), options{}, 1, 2, []int{0, 1}, "", "pod-0-0"},
		{"more hosts than a node has pods", many, options{nodes: 1}, 1, 250, nil, "; up to 3 hosts share one", "10.0.0.0 and 2 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options{nodes: 1, podsPerNode: 8, given: map[string]bool{"nodes": tt.given.nodes > 0, "pods-per-node": tt.given.podsPerNode > 0}}
			o.nodes, o.podsPerNode = max(o.nodes, tt.given.nodes), max(tt.given.podsPerNode, 1)
			p := place(tt.hosts, &o)
			assert.Equal(t, tt.nodes, o.nodes)
			assert.Equal(t, tt.pods, o.podsPerNode)
			if tt.want != nil {
				assert.Equal(t, tt.want, p.pods)
			}
			assert.Less(t, slices.Max(p.pods), o.nodes*o.podsPerNode)
			assert.Contains(t, p.how, tt.how)
			pods := make([]pod, o.nodes*o.podsPerNode)
			pods[0].name = "pod-0-0"
			p.name(pods, tt.hosts)
			assert.Equal(t, tt.nameOf0, pods[0].name)
		})
	}
}

// office is a capture of three hosts in two networks, which ask one server.
func office(t *testing.T) string {
	var packets [][]byte
	var at []time.Duration
	for i := range 30 {
		for _, host := range []string{"192.168.1.7", "192.168.1.8", "192.168.2.9"} {
			client := fmt.Sprintf("%s:%d", host, 5000+i)
			packets = append(packets, udp4(t, client, "203.0.113.53:53"), udp4(t, "203.0.113.53:53", client))
			at = append(at, time.Duration(len(at))*time.Millisecond, time.Duration(len(at)+1)*time.Millisecond)
		}
	}
	packets = append(packets, udp4(t, "198.51.100.4:4000", "192.168.2.9:9000"), udp4(t, "198.51.100.4:4000", "198.51.100.5:9000"))
	at = append(at, time.Second, time.Second)
	return pcapAt(t, at, packets...)
}

// The hosts of a capture are pods of their own, on as many nodes as they were, and
// the report calls them by their addresses.
func TestHostsOfACaptureKeepTheirNames(t *testing.T) {
	file := office(t)
	d := egressJSON(t, "-in", file, "-inside", "192.168.0.0/16", "-copies", "3")
	assert.Equal(t, 2, d.Settings.Nodes)
	assert.Equal(t, 2, d.Settings.PodsPerNode)
	assert.Contains(t, d.Settings.Placement, "3 hosts of the capture, each a pod")
	assert.Equal(t, 1, d.Frames.LeftOut)
	conversations := map[string]int{}
	node := map[string]string{}
	for _, p := range d.Pods {
		if p.Conversations > 0 {
			conversations[p.Name], node[p.Name] = p.Conversations, p.Node
		}
	}
	assert.Equal(t, map[string]int{"192.168.1.7": 90, "192.168.1.8": 90, "192.168.2.9": 93}, conversations, "in every copy; of the unasked one too")
	assert.Equal(t, node["192.168.1.7"], node["192.168.1.8"])
	assert.NotEqual(t, node["192.168.1.7"], node["192.168.2.9"])
	assert.Equal(t, map[string]int{"no_flow": 3}, d.Drops, "what nobody had asked for")

	other := egressJSON(t, "-pcap", file, "-inside", "192.168.0.0/16", "-copies", "3", "-seed", "9")
	assert.Equal(t, d.Pods, other.Pods, "nothing of it is drawn")

	_, text, _ := egress(t, "-pcap", file, "-inside", "192.168.1.0/24", "-inside", "192.168.2.0/24, 10.0.0.0/8")
	for _, want := range []string{"Hosts", "192.168.2.9", "1 packet from and to hosts that are not -inside", "2 nodes × 2 pods"} {
		assert.Contains(t, text, want)
	}
	one := egressJSON(t, "-pcap", file, "-inside", "192.168.1.0/24")
	assert.Equal(t, 1, one.Settings.Nodes)
	dealt := egressJSON(t, "-pcap", file, "-inside", "192.168.1.0/24", "-nodes", "2")
	assert.Equal(t, 1, dealt.Settings.PodsPerNode)

	// As many ports as one node has, not as three would.
	require.Len(t, one.Nodes, 1)
	assert.Equal(t, 60, one.Nodes[0].UDP.PeakPorts)
}

func TestInsideIsChecked(t *testing.T) {
	file := office(t)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"-inside", "10.0.0.0/8"}, 2, "-inside: needs -pcap"},
		{[]string{"-pcap", file, "-inside", "10.0.0.0"}, 2, `"10.0.0.0" is no CIDR such as 10.0.0.0/8`},
		{[]string{"-pcap", file, "-in", file}, 2, "-in and -pcap are the same"},
		{[]string{"-in", ""}, 2, `-in "": must not be empty`},
		{[]string{"-pcap", file, "-inside", "172.16.0.0/12"}, 1, "-inside: none of 182 packets comes from or goes to such a host"},
		{[]string{"-pcap", file, "-ports", "32000"}, 1, "-ports 32000: 2 nodes and 1 for upgrades need 96,000 ports"},
	} {
		status, _, stderr := egress(t, tt.args...)
		assert.Equal(t, tt.status, status, "%v", tt.args)
		assert.Contains(t, stderr, tt.want)
	}
}
