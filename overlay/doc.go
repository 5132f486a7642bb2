// Package overlay simulates an AKS cluster on Azure CNI Overlay: node pools,
// nodes and pods with the addresses Azure would give them, and the way their
// packets take out of the cluster.
//
// Terminology, used exactly so in names and comments:
//   - Pod CIDR: the range all pod addresses come from; it is not part of the VNet.
//   - Pod block: the part of the pod CIDR that belongs to one node, a /24
//     (IPv6: a /80).
//   - Node address: the node's address in its subnet of the VNet, one per family.
//   - Outbound IP: a frontend of the cluster's load balancer, which is what the
//     Internet sees.
//   - Directly connected: reached over peering, ExpressRoute or VPN, not over
//     the Internet.
//
// What happens to a packet depends on its destination alone, as with the rules
// that ip-masq-agent installs on a node:
//
//	pod ─► pod CIDR                      unchanged: no NAT, no encapsulation
//	pod ─► VNet, directly connected      source becomes the node address
//	pod ─► link-local, 168.63.129.16     source becomes the node address
//	pod ─► service CIDR                  dropped: no Service is modelled here
//	pod ─► anything else                 node address, then an outbound IP and port
//	node ─► VNet                         unchanged, it has the node address already
//	outside ─► pod address               dropped, there is no such way in
//
// A configuration is compiled once into an [lb.Config]; package lb plans the
// ports and package snat rewrites the packets. This package refuses to know
// port blocks and flow tables, and its doors do not parse packets.
//
// A private address that is neither in the VNet nor directly connected counts
// as "anything else"; it is our choice not to model Azure's system routes.
//
// The rules are those of the Azure documents "Azure CNI Overlay networking",
// "Use a public standard load balancer in AKS" and "Plan IP addressing for your
// cluster". Where they are silent, the choice is ours and its comment says so.
// Not modelled:
//   - Windows nodes and their OutboundNAT, kubenet, VNet-mode CNI: they are other
//     data paths.
//   - Versions, VM sizes, availability sets, virtual nodes, ingress controllers,
//     network policies: they change no address and no port.
//   - The same pod CIDR in several clusters of one VNet needs nothing: every
//     Cluster is a routing domain of its own.
//
// Every method of a [Cluster] may be called by many goroutines at once. The
// cluster's nodes and their addresses are fixed when it is created; pods come
// and go at any time and cost no work on the packet path.
package overlay
