// What Azure's load balancers do, and which way leads out, row by row.

package conformance

import "slices"

// BalancerRegister returns all rows about load balancers and what is beside them, section by
// section.
func BalancerRegister() []AzureGroup { return slices.Clone(balancerRegister) }

var balancerRegister = []AzureGroup{
	{"1_6", "Blocks consumed by rules", balancerBlockRows},
	{"2", "Idle timeout and TCP reset", balancerIdleRows},
	{"3", "Which SNAT is used", balancerOutboundRows},
	{"4_1", "Distribution", balancerDistributionRows},
	{"4_2", "Probes", balancerProbeRows},
	{"4_3", "Other types of rules", balancerRuleRows},
	{"4_4", "Network security groups", balancerSecurityRows},
}

var balancerBlockRows = []AzureRow{
	{"1_6_block", docOutbound, All, "A port of a load-balancing or inbound NAT rule takes the aligned block of 8 that it is in out of the frontend's SNAT ports; rules in one block take it once.", ""},
	{"1_6_outboundOnly", docOutbound, All, "It matters only where the frontend is used for outbound, too.", ""},
	{"1_6_protocol", docOurs, All, "A rule takes ports of its protocol; one outside the SNAT range takes the highest block.", ""},
	{"1_6_live", docOutbound, All, "A rule that is added under traffic takes its block; flows on it end.", ""},
}

var balancerIdleRows = []AzureRow{
	{"2_outboundRule", docRules, All, "Outbound rules: 4 to 120 minutes, 4 by default.", ""},
	{"2_rule", docReset, All, "Load-balancing and inbound NAT rules: 4 to 30 minutes, or 100 where asked for, 4 by default.", ""},
	{"2_basic", docOutbound, All, "Basic: outbound 4 minutes whatever the rule says, inbound 4 to 30; no TCP reset.", ""},
	{"2_publicIP", docPublicIP, Partly, "Instance-level public IPs: outbound 4 minutes, inbound 4 to 30.", "What passes one to one has no timer; what came in is remembered for 4 minutes."},
	{"2_lent", docSNATOptions, All, "Frontends lent by rules and default outbound access: 4 minutes.", ""},
	{"2_gateway", docGateway, All, "NAT gateways: TCP 4 to 120 minutes, UDP 4; by default 4.", ""},
	{"2_wholeMinutes", docStandardLB, All, "Timeouts are whole minutes.", ""},
	{"2_anyPacket", docStandardLB, All, "Any packet of either direction restarts the timer.", ""},
	{"2_gatewayUDP", docGateway, All, "NAT gateways: of UDP each direction has its own timer.", ""},
	{"2_udpOfRules", docReset, All, "The timeout of a rule is one of TCP; UDP has 4 minutes, which is our choice.", ""},
	{"2_silent", docReset, All, "Without reset a flow ends silently.", ""},
	{"2_reset", docReset, All, "With reset both ends get a RST, with the addresses that each knows.", ""},
	{"2_resetEstablished", docReset, All, "Only established connections are reset; others and UDP end silently.", ""},
	{"2_haPortsSilent", docReset, All, "HA ports with an appliance in the path send no reset.", ""},
	{"2_afterReset", docReset, All, "After a reset segments of the flow fail, and a SYN begins a new one at once.", ""},
	{"2_lateOutbound", docOurs, All, "A late segment from inside, of a flow that has expired, is dropped and counted.", ""},
	{"2_lateInbound", docAnanta, All, "A late segment to a rule is taken for the first of a flow.", ""},
}

var balancerOutboundRows = []AzureRow{
	{"3_order", docSNATOptions, All, "First wins: a route, NAT gateway, public IP, outbound rule, load-balancing rule, default outbound access, none.", ""},
	{"3_aksStandard", docSKUs, All, "AKS, Standard: the frontends of the outbound rule.", ""},
	{"3_basicNoService", docSKUs, All, "AKS, Basic, without Service: default outbound access with the ports of the table; the address changes on redeployment.", ""},
	{"3_basicServices", docSKUs, All, "AKS, Basic: the frontend of the first Service; later ones do not change it.", ""},
	{"3_basicFirstDeleted", docOurs, All, "The first Service goes: the oldest that remains, or one that the seed draws.", ""},
	{"3_basicAllDeleted", docSKUs, All, "All Services go: default outbound access again.", ""},
	{"3_publicIP", docNodePublicIP, All, "A public IP: one to one, without ports; outbound rules are not for such a machine.", ""},
	{"3_lent", docOutbound, All, "Standard rule without DisableOutboundSNAT and outbound rule: its frontend; of several, all; for its protocol.", ""},
	{"3_disabled", docRules, All, "DisableOutboundSNAT without outbound rule: no outbound.", ""},
	{"3_natRulesOnly", docRules, All, "Inbound NAT rules give no outbound.", ""},
	{"3_internalStandard", docRules, All, "Internal Standard load balancer alone: no outbound.", ""},
	{"3_internalBasic", docOutbound, All, "Internal Basic load balancer alone: default outbound access.", ""},
	{"3_ipBased", docRules, All, "An IP-based pool behaves like Basic, with default outbound access.", ""},
	{"3_gateway", docGateway, Partly, "NAT gateway: new flows switch at once, flows of the load balancer go on.", "That StandardV2 may interrupt them is not modelled."},
	{"3_noOutboundType", docEgress, All, "userDefinedRouting, none, block: AKS makes no outbound pool and no address.", ""},
	{"3_group", docOutbound, All, "A member with SKU Standard takes default outbound access from its whole group; flexible scale sets and private subnets have none.", ""},
	{"3_health", docOutbound, All, "Health is of no account for outbound.", ""},
	{"3_skuMix", docStandardLB, All, "SKUs do not mix, and do not change after creation; public IPs match the load balancer.", ""},
	{"3_serviceRules", docOurs, All, "Rules of AKS Services on Standard have DisableOutboundSNAT, on Basic never.", ""},
	{"3_ownAddresses", docStandardLB, Partly, "Standard needs a public IP or prefix; addresses that AKS made are not for reuse.", "Addresses have no owner here, so that any that is no other's may be given."},
}

var balancerDistributionRows = []AzureRow{
	{"4_1_default", docDistribution, All, "Default: by both addresses, both ports and protocol.", ""},
	{"4_1_sourceIP", docDistribution, All, "SourceIP: by both addresses.", ""},
	{"4_1_sourceIPProtocol", docDistribution, All, "SourceIPProtocol: by both addresses and protocol.", ""},
	{"4_1_poolChange", docAnanta, All, "A pool that changes is for new flows; existing ones stay on their backend.", ""},
	{"4_1_passThrough", docConcepts, All, "Client address and port reach the machine; answers have the frontend as source.", ""},
}

var balancerProbeRows = []AzureRow{
	{"4_2_protocols", docProbes, All, "Standard: TCP, HTTP, HTTPS; Basic: TCP, HTTP.", ""},
	{"4_2_source", docProbes, All, "Probes come from 168.63.129.16, of IPv6 from a link-local address; their service tag is AzureLoadBalancer.", ""},
	{"4_2_interval", docProbes, All, "At least 5 s apart, 15 by default.", ""},
	{"4_2_threshold", docProbes, All, "So many failures take a backend down, so many successes bring it back; 2 by default, which is our choice.", ""},
	{"4_2_kubernetes", docProvider, All, "Kubernetes: interval times number below 120 s.", ""},
	{"4_2_tcpFails", docProbes, All, "TCP fails without handshake in the interval, or by RST.", ""},
	{"4_2_httpFails", docProbes, All, "HTTP and HTTPS fail by another status than 200, by RST, or without answer in 30 s.", ""},
	{"4_2_forbiddenPorts", docProbes, All, "HTTP not on ports 19, 21, 25, 70, 110, 119, 143, 220, 993.", ""},
	{"4_2_none", docOurs, All, "A rule without probe: all backends take flows.", ""},
	{"4_2_oneDown", docProbes, All, "One is down: new connections to others, established ones stay, UDP flows move.", ""},
	{"4_2_allDownStandard", docProbes, All, "All are down, Standard: nothing new, connections stay unless the pool has one member, UDP ends.", ""},
	{"4_2_allDownBasic", docProbes, All, "All are down, Basic: connections end, too.", ""},
	{"4_2_allProbedUp", docProbes, All, "AllProbedUp: where all are down, all are up.", ""},
	{"4_2_adminState", docAdminState, All, "Admin state: None follows the probe, Up takes flows always, Down none: connections stay, UDP moves; of rules with probe only.", ""},
}

var balancerRuleRows = []AzureRow{
	{"4_3_floatingIP", docFloatingIP, All, "Floating IP: the destination stays, the probe is for the machine's address; two rules may have one backend port only by it.", ""},
	{"4_3_floatingOutbound", docFloatingIP, All, "What the machine sends from the frontend's address by itself is not translated.", ""},
	{"4_3_sameBackendPort", docDeployment, All, "RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig without floating IP.", ""},
	{"4_3_haPorts", docHAPorts, All, "HA ports: internal Standard only, all ports and protocols, one of a frontend; beside other rules only with floating IP.", ""},
	{"4_3_natRule", docNATRules, All, "Inbound NAT rule: a frontend port to a machine's port.", ""},
	{"4_3_natPool", docNATRules, All, "Inbound NAT rule of a pool: a port for each; who stays keeps it; a full range refuses further ones; the lowest free number first, which is our choice.", ""},
	{"4_3_hairpin", docConcepts, All, "A machine that is sent to itself by its own internal frontend waits in vain, once in n flows.", ""},
	{"4_3_noAnswer", docConcepts, All, "The load balancer answers nothing by itself.", ""},
	{"4_3_fragments", docConcepts, All, "Fragments to rules are not forwarded, but by HA ports.", ""},
}

var balancerSecurityRows = []AzureRow{
	{"4_4_defaults", docSecurity, All, "Default rules: VNet and load balancer in, VNet and Internet out, all else denied.", ""},
	{"4_4_priorities", docSecurity, All, "Rules of users have priorities 100 to 4096.", ""},
	{"4_4_stateful", docSecurity, All, "Groups are stateful; a change acts on new flows.", ""},
	{"4_4_addresses", docSecurity, All, "Inbound they see the machine's address and the client's, outbound the machine's.", ""},
	{"4_4_closed", docConcepts, All, "Standard is closed until a group allows, Basic is open.", ""},
	{"4_4_serviceRule", docProvider, All, "A Service's rule: frontend and Service port, or node and node port without floating IP; from the source ranges and tags, or the Internet.", ""},
	{"4_4_sourceRanges", docProvider, All, "loadBalancerSourceRanges and allowed IP ranges are not for one Service; with service tags kube-proxy's drop wins.", ""},
	{"4_4_podCIDR", docStandardLB, All, "Clients in the cluster need the pod CIDR among the source ranges.", ""},
	{"4_4_internalService", docProvider, All, "Internal Services are open to the VNet, unless denied by annotation.", ""},
}
