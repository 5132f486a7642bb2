// Where the hosts of a captured file live in the cluster: each is a pod of its own,
// the same in every copy, so that the report speaks of the hosts that were captured.

package story

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// placement says which pods the hosts of a recording are.
type placement struct {
	pods []int  // by host
	how  string // for the report, in one sentence
}

// place finds a pod for every host and settles -nodes and -pods-per-node unless they
// were given: a node for each /24 of IPv4 hosts, in the order of appearance, and as
// many pods as the fullest one has hosts. Hosts with IPv6, by their /64, go to the
// same nodes, as dual-stack hosts would; without any other they are what counts. Hosts
// with public addresses, which begin conversations with a captured server, do not
// count beside private ones and go to the first node. If there are more hosts on a
// node than pods, some share one.
func place(hosts []netip.Addr, o *options) placement {
	private := slices.ContainsFunc(hosts, netip.Addr.IsPrivate)
	networks, of := [2]map[netip.Prefix]int{{}, {}}, make([]int, len(hosts))
	for i, h := range hosts {
		known, bits := networks[0], 24
		if h.Is6() {
			known, bits = networks[1], 64
		}
		if !h.IsValid() || private && !h.IsPrivate() {
			continue // who sent packets that are too damaged to tell, or came from outside
		}
		network, _ := h.Prefix(bits)
		n, ok := known[network]
		if !ok {
			n = len(known)
			known[network] = n
		}
		of[i] = n
	}
	found := len(networks[0])
	if found == 0 {
		found = len(networks[1])
	}
	how := fmt.Sprintf("%s of the capture, each a pod", page.Plural(len(hosts), "host"))
	if len(hosts) == 1 {
		how = "1 host of the capture, a pod"
	}
	switch {
	case !o.given["nodes"]:
		o.nodes = max(1, min(found, overlay.NodesPerPodCIDR(podCIDR)))
		if o.nodes > 1 {
			how += fmt.Sprintf(", those of one /24 (IPv6: /64) on one of %d nodes", o.nodes)
		} else {
			how += " of the same node"
		}
	case found > 1:
		how += ", those of one /24 (IPv6: /64) on one node"
	default:
		for i := range of {
			of[i] = i
		}
		how += ", dealt to the nodes in turn"
	}

	onNode, fullest := make([]int, o.nodes), 1
	for _, n := range of {
		onNode[n%o.nodes]++
		fullest = max(fullest, onNode[n%o.nodes])
	}
	if !o.given["pods-per-node"] {
		o.podsPerNode = min(fullest, maxPodsPerNode)
	}
	if fullest > o.podsPerNode {
		how += fmt.Sprintf("; up to %d hosts share one", (fullest+o.podsPerNode-1)/o.podsPerNode)
	}
	p := placement{pods: make([]int, len(hosts)), how: how}
	clear(onNode)
	for i, n := range of {
		n %= o.nodes
		p.pods[i] = n*o.podsPerNode + onNode[n]%o.podsPerNode
		onNode[n]++
	}
	return p
}

// placeAmong makes the hosts of a recording the pods of a cluster of files, in order; if there are more hosts,
// some share one.
func placeAmong(hosts []netip.Addr, pods int) placement {
	p := placement{pods: make([]int, len(hosts)), how: fmt.Sprintf("%s of the capture, each one of the %s of the files", page.Plural(len(hosts), "host"), page.Plural(pods, "pod"))}
	for i := range hosts {
		p.pods[i] = i % pods
	}
	if len(hosts) > pods {
		p.how += fmt.Sprintf("; up to %d hosts share one", (len(hosts)+pods-1)/pods)
	}
	return p
}

// name names the pods after the hosts that they are.
func (p placement) name(pods []pod, hosts []netip.Addr) {
	first, more := make(map[int]string), make(map[int]int)
	for i, at := range p.pods {
		switch {
		case !hosts[i].IsValid():
		case first[at] == "":
			first[at] = hosts[i].String()
			pods[at].name = first[at]
		default:
			more[at]++
			pods[at].name = fmt.Sprintf("%s and %d more", first[at], more[at])
		}
	}
}
