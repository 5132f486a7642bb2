// Code generated from the register in internal/conformance; DO NOT EDIT.

// Package requirements is the list of what Azure does with the traffic of an AKS cluster, and
// what package overlay makes of it. It is documentation only. The sections are those of
// the project's sheet of facts about Azure.
//
// The columns are the row's name; what is modelled of it; and the document:
//   - all: what the row says.
//   - partly: what the row says but for what its second sentence says.
//   - left out: nothing, for the reason that the second sentence gives.
//
// Each row that is not left out has tests, named TestAzureRow_<section>_<name>, as in
// TestAzureRow_4_5_policyLocal; what is left out and could be asked for is refused.
//
// The documents:
//   - aks-lb: "Use a public standard load balancer in AKS" and what AKS says of several ones
//   - aks-overlay: "Azure CNI Overlay networking" and how to expand its pod CIDR
//   - aks-dual: "Use dual-stack networking in AKS"
//   - aks-node-ip: "Use instance-level public IPs in AKS"
//   - aks-nat: "Create a managed or user-assigned NAT gateway for AKS"
//   - aks-egress: "Customize cluster egress with outbound types" and static egress gateways
//   - aks-plan: "Plan IP addressing for your cluster", "AKS CNI networking overview" and the limits of large clusters
//   - aks-upgrade: "Upgrade options and recommendations for AKS clusters"
//   - aks-node: AKS on its nodes: AgentBaker, LocalDNS, restricted IMDS, custom node configuration
//   - provider: cloud-provider-azure: its documents on load balancers and Private Link, and its source
//   - k8s: Kubernetes: "Using Source IP", "Virtual IPs and Service Proxies"
//   - masq-agent: ip-masq-agent-v2
//   - linux: nf_nat and nf_conntrack
//   - lb-outbound: "Use SNAT for outbound connections", service endpoints
//   - limits: Azure's limits of subscriptions and services, public IP prefixes
//   - vnet: throughput of machines, performance tuning of TCP/IP in virtual networks
//   - ours: no document: our choice
//
// 4.5 Traffic policies and kube-proxy:
//
//	policyCluster           all       Policy Cluster: any healthy node takes the packet, the pod sees that
//	                                  node, also where it is local. (aks-lb)
//	policyLocal             all       Policy Local: only nodes with a ready pod take packets, by their
//	                                  health check; the pod sees the client; elsewhere it is dropped.
//	                                  (aks-lb)
//	clusterIPFromPod        all       Pod to ClusterIP: the pod's own address is seen. (k8s)
//	podToBalancerCluster    all       Pod to load balancer address, policy Cluster: stays on the node, the
//	                                  node is seen. (k8s)
//	podToBalancerLocal      all       The same with policy Local: treated as Cluster, the pod is seen.
//	                                  (k8s)
//	nodeToBalancer          all       Node to load balancer address: stays on the node, the node is seen.
//	                                  (k8s)
//	hairpin                 all       A pod that reaches itself through a Service sees its node. (k8s)
//	backendChoice           all       Endpoints are chosen at random per connection. (k8s)
//	affinity                all       ClientIP affinity: the same endpoint for 10,800 s of a client, and
//	                                  the rule distributes by SourceIP. (provider)
//	floatingIP              all       The load balancer's packet is for frontend and Service port; without
//	                                  floating IP, or internal and IPv6, for node and node port.
//	                                  (provider)
//	ipv6NeedsLocal          all       Services of IPv6 on Azure Linux need policy Local. (aks-overlay)
//
// 4.6 Annotations of Services:
//
//	internal                all       azure-load-balancer-internal: an internal load balancer. (aks-lb)
//	internalSubnet          all       azure-load-balancer-internal-subnet: where its frontend is. (aks-lb)
//	addresses               all       azure-load-balancer-ipv4, -ipv6: the frontend's address, which
//	                                  Services may share. (provider)
//	publicIPNames           all       azure-pip-name, azure-pip-prefix-id, with -ipv6: a public IP by
//	                                  name, or the next one of a prefix. (provider)
//	ipTags                  all       azure-pip-ip-tags: tags of the public IP; they change no packet.
//	                                  (provider)
//	dnsLabel                all       azure-dns-label-name: a name in DNS; it changes no packet. (aks-lb)
//	resourceGroup           all       azure-load-balancer-resource-group: where the public IP is kept; it
//	                                  changes no packet. (aks-lb)
//	sharedRule              all       azure-shared-securityrule: rules are shared, which changes no
//	                                  packet. (aks-lb)
//	allowedSources          all       azure-allowed-service-tags, azure-allowed-ip-ranges: who may send.
//	                                  (provider)
//	denyAll                 all       azure-deny-all-except-load-balancer-source-ranges: all others are
//	                                  denied. (provider)
//	tcpIdleTimeout          all       azure-load-balancer-tcp-idle-timeout: 4 to 30 minutes, 4 by default.
//	                                  (provider)
//	disableTCPReset         all       azure-load-balancer-disable-tcp-reset: connections end silently; by
//	                                  default both ends are reset. (aks-lb)
//	haPorts                 all       azure-load-balancer-enable-high-availability-ports: one rule for all
//	                                  ports of an internal frontend. (provider)
//	disableFloatingIP       all       azure-disable-load-balancer-floating-ip: node and node port instead
//	                                  of the frontend. (provider)
//	additionalPublicIPs     all       azure-additional-public-ips: further frontends. (provider)
//	mode                    all       azure-load-balancer-mode: which Basic load balancer; with Standard
//	                                  only default. (provider)
//	healthProbe             all       azure-load-balancer-health-probe-protocol, -interval, -num-of-probe,
//	                                  -request-path: the probe of all ports. (provider)
//	portNoRules             all       port_N_no_lb_rule, port_N_no_probe_rule: a port without rule, or
//	                                  without probe. (aks-lb)
//	portHealthProbe         all       port_N_health-probe_...: the probe of one port, which wins over that
//	                                  of all. (aks-lb)
//	defaultProbe            all       The probe without annotations, by policy, protocol and appProtocol;
//	                                  in mode Shared one for all on 10256. (provider)
//
// 5 Azure CNI Overlay:
//
//	podBlock                all       Every node has a /24 of the pod CIDR of its own, a new one the next
//	                                  that is free. (aks-overlay)
//	podCIDRDefault          all       Pods are in 10.244.0.0/16 and fd12:3456:789a::/64 by default.
//	                                  (aks-overlay)
//	serviceCIDRDefault      all       Services are in 10.0.0.0/16 and fd12:3456:789a:1::/108 by default.
//	                                  (aks-overlay)
//	podBlockIPv6            all       A node's block of IPv6 is a /80. (aks-dual)
//	maxPods                 all       A node runs 250 pods, or 10 to 250 as its pool says, which is fixed.
//	                                  (aks-overlay)
//	clusterSize             all       5,000 nodes a cluster, 1,000 a pool. (aks-plan)
//	nodesByPodCIDR          all       A pod CIDR serves as many nodes as it has blocks. (aks-overlay)
//	nodesBySubnet           all       A subnet serves as many nodes as it has addresses, less five.
//	                                  (aks-overlay)
//	dnsServiceIP            all       The DNS Service has its address in the service CIDR, 10.0.0.10 by
//	                                  default, never the first. (aks-overlay)
//	serviceCIDRSize         all       The service CIDR is smaller than a /12, of IPv6 no larger than a
//	                                  /108. (aks-overlay)
//	overlaps                all       Pod and service CIDRs overlap neither each other nor subnets nor
//	                                  connected networks. (aks-overlay)
//	samePodCIDR             all       Clusters of one VNet may have the same pod CIDR. (aks-overlay)
//	reservedRanges          all       169.254.0.0/16, 172.30.0.0/16, 172.31.0.0/16 and 192.0.2.0/24 are
//	                                  for nobody. (aks-plan)
//	ipFamilies              all       ipv4 or ipv4,ipv6; CIDRs match in number and order. (aks-overlay)
//	dualStackNotWith        partly    Dual stack does not go with a NAT gateway of SKU Standard, Azure NPM
//	                                  and Calico. (aks-overlay) Virtual nodes and versions are not
//	                                  modelled.
//	names                   all       Names of subnet, VNet and its resource group have at most 63
//	                                  characters. (aks-overlay)
//	dualStackServices       partly    A Service of two families has a public address of each.
//	                                  (aks-overlay) Versions are not modelled: before Kubernetes 1.27 only
//	                                  the first family has one.
//	ipv6Services            all       Probes of IPv6 find no node of Azure Linux healthy with policy
//	                                  Cluster. (aks-overlay)
//	refusedWithOverlay      left out  Availability sets, Application Gateway, DCsv2 nodes and virtual
//	                                  nodes do not go with it. (aks-overlay) No field of a configuration
//	                                  asks for them; package manifest refuses what az prints of them, and
//	                                  lists an Application Gateway as not modelled.
//	poolSubnet              all       A pool may have a subnet of its own. (aks-overlay)
//	expandPodCIDR           all       A pod CIDR of IPv4 may grow into a larger one, under traffic.
//	                                  (aks-overlay)
//	windows                 partly    Windows nodes have 64 ports for their pods, by destination, unless
//	                                  OutboundNAT is off, with a NAT gateway or routes of the user only,
//	                                  and without node public IPs. (aks-overlay) Without OutboundNAT
//	                                  packets leave with the node's address all the same.
//	podToPod                all       Pod to pod: unchanged. (aks-overlay)
//	podToClusterIP          all       Pod to ClusterIP or DNS: the destination is rewritten on the node,
//	                                  the pod is seen. (aks-overlay)
//	podToVNet               all       Pod to VNet, peered or connected network: the node is seen.
//	                                  (aks-overlay)
//	podToInternet           all       Pod to Internet: the node's address, then that of the outbound type.
//	                                  (aks-overlay)
//	nodeToPod               all       Node to pod: the node is seen. (aks-overlay)
//	podToPlatform           all       Pod to link-local and platform addresses: the node is seen.
//	                                  (masq-agent)
//	outsideToPod            all       The Internet reaches no pod. (aks-overlay)
//	hostInsidePodCIDR       all       A host that has an address of the pod CIDR is out of reach for pods.
//	                                  (aks-overlay)
//	masquerade              partly    Destinations in NonMasqueradeCIDRs see the pod, all others that are
//	                                  not local the node. (masq-agent) There is one list, which holds at
//	                                  once; several config maps and their reading anew are not modelled.
//	nodePorts               all       A node keeps a source port if it is free towards the destination,
//	                                  else takes another. (ours)
//	securityRules           all       Groups see pods by their addresses; where rules deny, node to node,
//	                                  node to pod and pod to pod need allowing. (aks-overlay)
//	kubenet                 all       kubenet: a /24 per node and a route each, 400 nodes, 110 pods by
//	                                  default, Linux and Calico only. (aks-plan)
//	vnetCNI                 all       Node subnet CNI: pods have addresses of the subnet; the VNet sees
//	                                  them, others the node. (aks-plan)
//
// 6 Node public IPs and host ports:
//
//	enable                  partly    Each node of a pool has a public address of its own and leaves by it
//	                                  one to one; it stays so, and idles for 4 minutes. (aks-node-ip) Of
//	                                  its pods TCP and UDP leave by it, echo and datagrams in pieces do
//	                                  not.
//	prefix                  all       A /28 serves 16 nodes. (aks-node-ip)
//	dualStack               all       Of two families both prefixes are given. (aks-node-ip)
//	ipTags                  all       The tag RoutingPreference=Internet. (aks-node-ip)
//	allowedHostPorts        all       A comma list of port/protocol and start-end/protocol. (aks-node-ip)
//	validExamples           all       The lists that the document shows. (aks-node-ip)
//	effect                  all       Rules of the cluster's group for a security group of the pool's
//	                                  nodes; the group of the subnet is the user's. (aks-node-ip)
//	parser                  all       1 to 65535, start not after end, any case, spaces trimmed; overlaps
//	                                  are allowed. (ours)
//	automatic               all       The annotation assigns host ports to container ports that the pod
//	                                  has, single ones. (aks-node-ip)
//	range                   all       Out of 40000 to 59999, unique in the cluster. (aks-node-ip)
//	variable                all       The variable is <deployment>_PORT_<port>_<PROTOCOL>_HOSTPORT.
//	                                  (aks-node-ip)
//	onceWhateverProtocol    all       A number is given once, whatever the protocol. (ours)
//	defaultGroup            all       Without allowed host ports the group blocks them. (aks-node-ip)
//	versions                left out  From AKS 1.24, now 1.29. (aks-node-ip) Versions are not modelled.
//
// 11.1 Traffic inside the cluster and the VNet:
//
//	firstPacket             all       Only the first packet of a connection is asked about; whatever
//	                                  answers goes back untranslated. (linux)
//	everyProtocol           all       Between nodes, pods and VNet every protocol and fragments pass.
//	                                  (aks-overlay)
//	podToOwnNode            all       Pod to its own node: the pod is seen. (masq-agent)
//	podToOtherNode          all       Pod to another node: its node is seen. (masq-agent)
//	podToVNetTimers         all       Pod to VNet: the timers of the node's conntrack, no reset, no
//	                                  outbound port. (linux)
//	nodeUnasked             all       What is sent to a node unasked is delivered, if groups allow it.
//	                                  (aks-overlay)
//	platform                all       Pods do not reach 168.63.129.16 by TCP on ports 80 and 32526; nodes
//	                                  do. (aks-node)
//	restrictIMDS            all       With the restriction pods do not reach 169.254.169.254; nodes do.
//	                                  (aks-node)
//	localDNS                partly    Pods ask the DNS cache of their node, and nothing leaves it.
//	                                  (aks-node) What the cache asks in turn is for the caller to send, as
//	                                  the node.
//	dnsLimits               partly    Azure DNS answers 1,000 queries a second of a VM, 200 at a time: an
//	                                  option. (limits) Queries over TCP are not counted.
//
// 11.2 Ceilings other than outbound ports:
//
//	connections             partly    500,000 connections of a VM: an option. (vnet) What pods send each
//	                                  other is not counted, nor what is translated one to one, for nobody
//	                                  remembers these flows.
//	conntrack               partly    The size of a node's conntrack, by its memory: an option. (aks-node)
//	                                  What pods send each other is not counted, nor what is translated one
//	                                  to one.
//	ephemeralPorts          all       A node's own sockets have 28,232 ports for a destination: an option.
//	                                  (aks-node)
//	firewall                left out  Ports of an Azure Firewall behind a route. (aks-nat) It is a
//	                                  resource of its own; the user's next hop may be one.
//	basic                   partly    A Basic load balancer has 300 backends, 200 frontends, no outbound
//	                                  rules and no resets. (limits) The 301st node is refused once there
//	                                  is a Service.
//	prefixSizes             all       Public prefixes are /28 to /31, of IPv6 /124 to /127; larger ones
//	                                  are own ranges. (limits)
//	pods                    all       200,000 pods a cluster, though its nodes could run more. (aks-plan)
//
// 11.3 Fragments:
//
//	fragments               partly    Fragments pass if their first one has been seen. (vnet) What stays
//	                                  in the network passes in any order, and nothing is cut at 1,400
//	                                  bytes.
//
// 11.4 Life of a cluster:
//
//	surge                   all       Surge is cut to the nodes that a pool has; a percentage is rounded
//	                                  up; maxUnavailable is for where there is no surge. (aks-upgrade)
//	upgradeOrder            all       Surge nodes come, old ones are cordoned, drained, soak and are
//	                                  reimaged, one buffer after the other; surge nodes go last.
//	                                  (aks-upgrade)
//	automaticPorts          all       Automatic ports serve a cluster of any size: from 1,000 nodes on 32
//	                                  in total, or the most that fit. (aks-lb)
//	addFrontend             all       Another frontend ends no flow. (aks-lb)
//	outboundType            all       The outbound type may change from each to each; flows to the
//	                                  Internet end. (aks-egress)
//	gatewayV2               all       A gateway V2 has 1 to 16 addresses of each family. (aks-nat)
//	apiServer               all       Traffic of the nodes to the API server takes the outbound type.
//	                                  (aks-nat)
//	reconcile               left out  What is changed by hand vanishes when AKS reconciles. (aks-lb) The
//	                                  load balancer of a cluster changes by the cluster's configuration
//	                                  only.
//	serviceEndpoints        all       Service endpoints: no SNAT; connections that are open close at the
//	                                  switch, on or off: both ends are reset. (lb-outbound)
//	privateEndpoint         all       A private endpoint is an address of the VNet: no SNAT. (lb-outbound)
//	staticEgress            partly    Static egress gateways: annotated pods leave through a gateway pool
//	                                  with a prefix. (aks-egress) Gateways with private addresses are not
//	                                  modelled.
//	severalLoadBalancers    left out  Several Standard load balancers. (aks-lb) They are resources with a
//	                                  control loop of their own.
//	privateLink             left out  Private Link Services. (provider) They are resources of their own.
//	userReports             left out  What users report and no document says: ports of closed connections
//	                                  that stay allocated, connections that drop where a node is added.
//	                                  (ours) No document says so.
package requirements
