// Package overlay simulates an AKS cluster on Azure CNI Overlay, or on kubenet or Azure CNI
// Node Subnet (package cni): node pools,
// nodes and pods with the addresses Azure would give them, and the way their
// packets take inside the network and out of it, while nodes and pods come and go.
//
// Terminology, used exactly so in names and comments:
//   - Pod CIDR: the range all pod addresses come from; it is not part of the VNet.
//   - Pod block: the part of the pod CIDR that belongs to one node, a /24
//     (IPv6: a /80). Where there is no pod CIDR, in a node subnet, it is the addresses of
//     its subnet that a node keeps for pods.
//   - Node address: the node's address in its subnet of the VNet, one per family.
//     A pod of the node's network (hostNetwork) has it, too, and is the node here.
//   - Outbound IP: a public address of the cluster's load balancer or NAT gateway,
//     which is what the Internet sees.
//   - Directly connected: reached over peering, ExpressRoute or VPN, not over
//     the Internet.
//   - Local: inside the network, so pod CIDRs, service CIDRs, VNet, directly
//     connected, service endpoints, and the addresses of the platform.
//
// # Where a packet goes
//
// Source NAT sees the first packet of a connection only: what answers goes back as the
// first packet came, whoever sends it. So this is by who begins:
//
//	pod ─► pod                            unchanged: no NAT, no encapsulation
//	pod ─► its own node                   unchanged; it does not leave the node
//	pod ─► other node, VNet, connected    source becomes the node address
//	pod ─► NonMasqueradeCIDRs             unchanged
//	pod ─► other node, VNet               unchanged, in a node subnet
//	pod ─► link-local, 168.63.129.16      source becomes the node address; dropped are
//	                                      TCP ports 80 and 32526 of the latter, and the
//	                                      metadata service with RestrictIMDS
//	pod ─► 169.254.10.10, .11             with LocalDNS it does not leave the node
//	pod of a static gateway ─► Internet   an address of the gateway; see [Cluster.UseStaticGateway]
//	pod, node ─► Service                  an endpoint of the Service; see below
//	pod ─► else in the service CIDR       dropped
//	pod ─► anything else                  node address, then what OutboundType says
//	node ─► pod, node, VNet, connected    unchanged
//	node ─► anything else                 what OutboundType says
//	VNet, connected, node ─► node, pod    unchanged
//	Internet ─► node public IP            that node, at its AllowedHostPorts
//	Internet ─► other node, pod           dropped, there is no such way in
//
// What stays local passes in every protocol between nodes and pods and between nodes and
// the VNet; a pod is masqueraded with TCP, UDP and ICMP echo. It takes no outbound port,
// its timers are those of a node's conntrack, and nobody is told when one runs out.
// Limits of the load balancer (TCP and UDP only, no fragments) concern what goes through
// it. A private address that is not local counts as "anything else"; it is our
// choice not to model Azure's system routes.
//
// # Services
//
// A [Service] has frontends: cluster IPs, a port of every node, addresses of the cluster's
// load balancer: public ones, or if it is internal private ones of a subnet. A node that gets
// a packet to one sends it to an endpoint, on whatever node that is. The answer passes the same node,
// which makes it one of the frontend. Which endpoints there are to choose from, at random but
// repeatably, and what the endpoint sees as the client:
//
//	pod ─► cluster IP                     all, or with InternalTrafficPolicy Local those of the node; the pod
//	node ─► cluster IP                    likewise; the node
//	pod ─► load balancer, own node port   all, without leaving the node; the node, or with policy Local the pod
//	node ─► load balancer, own node port  all, without leaving the node; the node
//	outside ─► load balancer, node port   policy Cluster: all; the node, by a port that it chooses
//	                                      policy Local: those of the node, else dropped; the client
//	pod ─► Service ─► the same pod        the node
//
// One call of a door carries a packet over all its nodes: a verdict of Forward to the
// inside means that it is to be delivered to the pod or node whose address it now has.
// An endpoint may be outside of the cluster, and then the packet goes on as what the client's node,
// or the client itself, sends there. For a Service without endpoints a node answers that the
// port is unreachable, to whom is not on the Internet; the answer comes out of Advance.
// [ServiceSession] shows all four sockets of a connection.
//
// The load balancer has a rule for each port and address, with floating IP unless an annotation
// says otherwise, and a probe, which the nodes answer by the endpoints that there are:
// until [Cluster.Advance] has made the first one nothing new reaches a node, and a node
// that is full of other pods gets nothing with policy Local. Internal Services have a load balancer of
// their own in front of the same nodes ([InternalLoadBalancerName]), for clients of the VNet and
// what is connected; what answers by it goes by it, also where a node answers by a node port
// (internalservice.go).
//
// # Who decides what
//
// A configuration is compiled into two translators of package snat, which rewrite the
// packets. The egress ([lb.Egress]: load balancer, NAT gateway) has the outbound
// ports; the nodes have the rest. Each packet goes to one of them:
//
//	state (state.go)     who is a node or pod; one atomic read, replaced when the configuration changes
//	way.go               local destination? one bit by its first 16 bits, and seldom a prefix look-up
//	 ├─ proxies          serviceway.go, over internal/kubeproxy, which chooses endpoints (begin.go):
//	 │                   what nodes do with packets to and from Services, before
//	 │                   what they do otherwise (Outbound), or after (Inbound); services.go says
//	 │                   what Services there are, balancing.go what the load balancer has of them
//	 ├─ nodes            compileNodes in compile.go; the destination table is localRoutes in routing.go
//	 ├─ gateways         staticgateway.go, over internal/staticgateway: what annotated pods send to the Internet
//	 └─ egress           compile in compile.go; the outbound type in outboundtype.go
//	admission.go         asked by these before a flow begins, and by proxies before they send the
//	                     first packet to an endpoint: node's own rules, NetworkPolicy,
//	                     security groups, Admit; AKS's own group is made in internal/security
//	machines.go          what bounds the flows of a node besides ports: internal/machine counts them
//	explain.go           the same decisions in words, without changing anything: internal/explain
//
// An upgrade has no state here: package upgrade calls the doors that change a cluster. Nor has
// the traffic to the API server: package apiserver sends it, for who wants it.
//
// Nodes have the same index in nodes and egress, for both got them in the same order.
//
// Cluster.mu is held while the configuration changes (reconfigure.go); under it the locks of
// services.mu, which guards Services and their endpoints; and under that the locks of
// the translators, which say their own order, and pods.mu, which guards who has
// which address (pod.go), and under that the lock of static gateways. Packets take none of these but
// locks of shards: one of one translator or proxy at a time, and a batch those of all its packets.
// Every method of a [Cluster] may be called by many goroutines at once.
//
// This package refuses to know port blocks and flow tables, and its doors do not parse
// packets beyond their addresses, unless those may be of a Service.
//
// # Sources and limits
//
// The rules are those of the Azure documents "Azure CNI Overlay networking", "Use a public
// standard load balancer in AKS", "Customize cluster egress with outbound types" and "Plan
// IP addressing for your cluster", of ip-masq-agent-v2, and of AgentBaker's node
// scripts; of other plugins, of "AKS legacy Container Networking Interfaces (CNI)" and "Use
// dual-stack kubenet networking in AKS". Where they are silent, the choice is ours and its
// comment says so. Package overlay/requirements has them row by row, with what is modelled and
// the names of tests.
// Not modelled, November 2026:
//   - Of Services: SCTP and topology hints. What comes from the Internet for a Service without
//     endpoints is dropped, for a load balancer carries no ICMP error of a node; what is
//     rejected is told without a limit for one receiver.
//   - One space of ports for all of a node: what proxies masquerade and what the nodes' translator
//     does are two. Nor does a node with a public IP remember its own flows: one of a pod may get the
//     port and the answers of one.
//   - Of network plugins: Azure CNI Pod Subnet and the change from one plugin to another. What Azure takes longer to
//     do, as the further hop of kubenet, takes no time here.
//   - Of Windows nodes: with DisableOutboundNAT packets leave with the node's address
//     all the same, where a next hop of the user's would see the pod's in a node subnet.
//   - Versions, VM sizes, availability sets, virtual nodes, ingress controllers:
//     they change no address and no port.
//   - A pod or node of the cluster reaches a host port (hostport.go) with its own address.
//   - Fragments of local flows are translated in any order.
//   - A VNet host may begin flows to a pod, though outside of node subnets Azure has no route
//     there but that of nodes.
//   - SCTP and ESP of pods to the VNet, which Linux masquerades, are dropped. Between pods and
//     nodes they pass unchanged, whoever begins.
//   - Of the life of clusters: budgets of pods (a drain always succeeds), quota other than of
//     ports and addresses, what is changed on the load balancer by hand, several Standard load
//     balancers, Private Link Services, static egress gateways with private addresses, the ports per
//     address of an Azure Firewall: each is a resource or a control loop of its own. What users
//     have reported and no document says: ports that stay allocated after a
//     connection has closed, and connections that drop where a node is added.
//   - The same pod CIDR in several clusters of one VNet needs nothing: every
//     Cluster is a routing domain of its own.
package overlay
