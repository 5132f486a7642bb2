// Code generated from the register in internal/conformance; DO NOT EDIT.

// Package requirements is the list of what Azure does with load balancers and what is beside them, and
// what package lb makes of it. It is documentation only. The sections are those of
// the project's sheet of facts about Azure.
//
// The columns are the row's name; what is modelled of it; and the document:
//   - all: what the row says.
//   - partly: what the row says but for what its second sentence says.
//   - left out: nothing, for the reason that the second sentence gives.
//
// Each row that is not left out has tests, some named TestAzureRow_<section>_<name>, and others
// that the tests of the register list.
//
// The documents:
//   - aks-lb: "Use a public standard load balancer in AKS" and what AKS says of several ones
//   - aks-node-ip: "Use instance-level public IPs in AKS"
//   - aks-egress: "Customize cluster egress with outbound types" and static egress gateways
//   - provider: cloud-provider-azure: its documents on load balancers and Private Link, and its source
//   - lb-outbound: "Use SNAT for outbound connections", service endpoints
//   - lb-rules: "Outbound rules Azure Load Balancer"
//   - lb-reset: "Load Balancer TCP Reset and Idle Timeout"
//   - lb-modes: "Azure Load Balancer distribution modes"
//   - lb-probes: "Azure Load Balancer health probes"
//   - lb-admin: "Administrative state (admin state) in Azure Load Balancer"
//   - lb-floating: "Azure Load Balancer Floating IP configuration" and multiple frontends
//   - lb-ha: "High availability ports overview"
//   - lb-nat-rules: "Inbound NAT rules"
//   - lb-concepts: "Azure Load Balancer components and limitations", SKUs
//   - lb-errors: "Troubleshoot common Azure deployment errors with Azure Load Balancer"
//   - public-ip: "Public IP addresses in Azure"
//   - nat-gateway: "Azure NAT Gateway resource", its overview and SKUs
//   - nsg: "Azure network security groups overview"
//   - snat-options: "SNAT options for Azure VM", jpaztech
//   - aks-skus: what an AKS cluster leaves by, by the SKU of its load balancer
//   - ananta: "Ananta: Cloud Scale Load Balancing", SIGCOMM 2013
//   - ours: no document: our choice
//
// 1.6 Blocks consumed by rules:
//
//	block                   all       A port of a load-balancing or inbound NAT rule takes the aligned
//	                                  block of 8 that it is in out of the frontend's SNAT ports; rules in
//	                                  one block take it once. (lb-outbound)
//	outboundOnly            all       It matters only where the frontend is used for outbound, too.
//	                                  (lb-outbound)
//	protocol                all       A rule takes ports of its protocol; one outside the SNAT range takes
//	                                  the highest block. (ours)
//	live                    all       A rule that is added under traffic takes its block; flows on it end.
//	                                  (lb-outbound)
//
// 2 Idle timeout and TCP reset:
//
//	outboundRule            all       Outbound rules: 4 to 120 minutes, 4 by default. (lb-rules)
//	rule                    all       Load-balancing and inbound NAT rules: 4 to 30 minutes, or 100 where
//	                                  asked for, 4 by default. (lb-reset)
//	basic                   all       Basic: outbound 4 minutes whatever the rule says, inbound 4 to 30;
//	                                  no TCP reset. (lb-outbound)
//	publicIP                partly    Instance-level public IPs: outbound 4 minutes, inbound 4 to 30.
//	                                  (public-ip) What passes one to one has no timer; what came in is
//	                                  remembered for 4 minutes.
//	lent                    all       Frontends lent by rules and default outbound access: 4 minutes.
//	                                  (snat-options)
//	gateway                 all       NAT gateways: TCP 4 to 120 minutes, UDP 4; by default 4.
//	                                  (nat-gateway)
//	wholeMinutes            all       Timeouts are whole minutes. (aks-lb)
//	anyPacket               all       Any packet of either direction restarts the timer. (aks-lb)
//	gatewayUDP              all       NAT gateways: of UDP each direction has its own timer. (nat-gateway)
//	udpOfRules              all       The timeout of a rule is one of TCP; UDP has 4 minutes, which is our
//	                                  choice. (lb-reset)
//	silent                  all       Without reset a flow ends silently. (lb-reset)
//	reset                   all       With reset both ends get a RST, with the addresses that each knows.
//	                                  (lb-reset)
//	resetEstablished        all       Only established connections are reset; others and UDP end silently.
//	                                  (lb-reset)
//	haPortsSilent           all       HA ports with an appliance in the path send no reset. (lb-reset)
//	afterReset              all       After a reset segments of the flow fail, and a SYN begins a new one
//	                                  at once. (lb-reset)
//	lateOutbound            all       A late segment from inside, of a flow that has expired, is dropped
//	                                  and counted. (ours)
//	lateInbound             all       A late segment to a rule is taken for the first of a flow. (ananta)
//
// 3 Which SNAT is used:
//
//	order                   all       First wins: a route, NAT gateway, public IP, outbound rule,
//	                                  load-balancing rule, default outbound access, none. (snat-options)
//	aksStandard             all       AKS, Standard: the frontends of the outbound rule. (aks-skus)
//	basicNoService          all       AKS, Basic, without Service: default outbound access with the ports
//	                                  of the table; the address changes on redeployment. (aks-skus)
//	basicServices           all       AKS, Basic: the frontend of the first Service; later ones do not
//	                                  change it. (aks-skus)
//	basicFirstDeleted       all       The first Service goes: the oldest that remains, or one that the
//	                                  seed draws. (ours)
//	basicAllDeleted         all       All Services go: default outbound access again. (aks-skus)
//	publicIP                all       A public IP: one to one, without ports; outbound rules are not for
//	                                  such a machine. (aks-node-ip)
//	lent                    all       Standard rule without DisableOutboundSNAT and outbound rule: its
//	                                  frontend; of several, all; for its protocol. (lb-outbound)
//	disabled                all       DisableOutboundSNAT without outbound rule: no outbound. (lb-rules)
//	natRulesOnly            all       Inbound NAT rules give no outbound. (lb-rules)
//	internalStandard        all       Internal Standard load balancer alone: no outbound. (lb-rules)
//	internalBasic           all       Internal Basic load balancer alone: default outbound access.
//	                                  (lb-outbound)
//	ipBased                 all       An IP-based pool behaves like Basic, with default outbound access.
//	                                  (lb-rules)
//	gateway                 partly    NAT gateway: new flows switch at once, flows of the load balancer go
//	                                  on. (nat-gateway) That StandardV2 may interrupt them is not
//	                                  modelled.
//	noOutboundType          all       userDefinedRouting, none, block: AKS makes no outbound pool and no
//	                                  address. (aks-egress)
//	group                   all       A member with SKU Standard takes default outbound access from its
//	                                  whole group; flexible scale sets and private subnets have none.
//	                                  (lb-outbound)
//	health                  all       Health is of no account for outbound. (lb-outbound)
//	skuMix                  all       SKUs do not mix, and do not change after creation; public IPs match
//	                                  the load balancer. (aks-lb)
//	serviceRules            all       Rules of AKS Services on Standard have DisableOutboundSNAT, on Basic
//	                                  never. (ours)
//	ownAddresses            partly    Standard needs a public IP or prefix; addresses that AKS made are
//	                                  not for reuse. (aks-lb) Addresses have no owner here, so that any
//	                                  that is no other's may be given.
//
// 4.1 Distribution:
//
//	default                 all       Default: by both addresses, both ports and protocol. (lb-modes)
//	sourceIP                all       SourceIP: by both addresses. (lb-modes)
//	sourceIPProtocol        all       SourceIPProtocol: by both addresses and protocol. (lb-modes)
//	poolChange              all       A pool that changes is for new flows; existing ones stay on their
//	                                  backend. (ananta)
//	passThrough             all       Client address and port reach the machine; answers have the frontend
//	                                  as source. (lb-concepts)
//
// 4.2 Probes:
//
//	protocols               all       Standard: TCP, HTTP, HTTPS; Basic: TCP, HTTP. (lb-probes)
//	source                  all       Probes come from 168.63.129.16, of IPv6 from a link-local address;
//	                                  their service tag is AzureLoadBalancer. (lb-probes)
//	interval                all       At least 5 s apart, 15 by default. (lb-probes)
//	threshold               all       So many failures take a backend down, so many successes bring it
//	                                  back; 2 by default, which is our choice. (lb-probes)
//	kubernetes              all       Kubernetes: interval times number below 120 s. (provider)
//	tcpFails                all       TCP fails without handshake in the interval, or by RST. (lb-probes)
//	httpFails               all       HTTP and HTTPS fail by another status than 200, by RST, or without
//	                                  answer in 30 s. (lb-probes)
//	forbiddenPorts          all       HTTP not on ports 19, 21, 25, 70, 110, 119, 143, 220, 993.
//	                                  (lb-probes)
//	none                    all       A rule without probe: all backends take flows. (ours)
//	oneDown                 all       One is down: new connections to others, established ones stay, UDP
//	                                  flows move. (lb-probes)
//	allDownStandard         all       All are down, Standard: nothing new, connections stay unless the
//	                                  pool has one member, UDP ends. (lb-probes)
//	allDownBasic            all       All are down, Basic: connections end, too. (lb-probes)
//	allProbedUp             all       AllProbedUp: where all are down, all are up. (lb-probes)
//	adminState              all       Admin state: None follows the probe, Up takes flows always, Down
//	                                  none: connections stay, UDP moves; of rules with probe only.
//	                                  (lb-admin)
//
// 4.3 Other types of rules:
//
//	floatingIP              all       Floating IP: the destination stays, the probe is for the machine's
//	                                  address; two rules may have one backend port only by it.
//	                                  (lb-floating)
//	floatingOutbound        all       What the machine sends from the frontend's address by itself is not
//	                                  translated. (lb-floating)
//	sameBackendPort         all       RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig
//	                                  without floating IP. (lb-errors)
//	haPorts                 all       HA ports: internal Standard only, all ports and protocols, one of a
//	                                  frontend; beside other rules only with floating IP. (lb-ha)
//	natRule                 all       Inbound NAT rule: a frontend port to a machine's port.
//	                                  (lb-nat-rules)
//	natPool                 all       Inbound NAT rule of a pool: a port for each; who stays keeps it; a
//	                                  full range refuses further ones; the lowest free number first, which
//	                                  is our choice. (lb-nat-rules)
//	hairpin                 all       A machine that is sent to itself by its own internal frontend waits
//	                                  in vain, once in n flows. (lb-concepts)
//	noAnswer                all       The load balancer answers nothing by itself. (lb-concepts)
//	fragments               all       Fragments to rules are not forwarded, but by HA ports. (lb-concepts)
//
// 4.4 Network security groups:
//
//	defaults                all       Default rules: VNet and load balancer in, VNet and Internet out, all
//	                                  else denied. (nsg)
//	priorities              all       Rules of users have priorities 100 to 4096. (nsg)
//	stateful                all       Groups are stateful; a change acts on new flows. (nsg)
//	addresses               all       Inbound they see the machine's address and the client's, outbound
//	                                  the machine's. (nsg)
//	closed                  all       Standard is closed until a group allows, Basic is open.
//	                                  (lb-concepts)
//	serviceRule             all       A Service's rule: frontend and Service port, or node and node port
//	                                  without floating IP; from the source ranges and tags, or the
//	                                  Internet. (provider)
//	sourceRanges            all       loadBalancerSourceRanges and allowed IP ranges are not for one
//	                                  Service; with service tags kube-proxy's drop wins. (provider)
//	podCIDR                 all       Clients in the cluster need the pod CIDR among the source ranges.
//	                                  (aks-lb)
//	internalService         all       Internal Services are open to the VNet, unless denied by annotation.
//	                                  (provider)
package requirements
