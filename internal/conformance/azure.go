// What Azure does with the traffic of a cluster, row by row.

package conformance

import "slices"

// AzureRow is one statement about clusters or load balancers.
type AzureRow struct {
	ID     string // section and name, as in the names of its tests
	Source string // the document, as in the list of the table's introduction
	Fit    Fit    // All, Partly or OutOfScope
	Text   string // the statement, in short
	Why    string // of what is not modelled; empty if Fit is All
}

// AzureGroup is the rows of one section.
type AzureGroup struct {
	Section string // number of the section, with _ for the dot
	Title   string
	Rows    []AzureRow
}

// AzureRegister returns all rows about clusters, section by section.
func AzureRegister() []AzureGroup { return slices.Clone(azureRegister) }

var azureRegister = []AzureGroup{
	{"4_5", "Traffic policies and kube-proxy", azurePolicyRows},
	{"4_6", "Annotations of Services", azureAnnotationRows},
	{"5", "Azure CNI Overlay", azureOverlayRows},
	{"6", "Node public IPs and host ports", azureNodePublicIPRows},
	{"11_1", "Traffic inside the cluster and the VNet", azureInsideRows},
	{"11_2", "Ceilings other than outbound ports", azureCeilingRows},
	{"11_3", "Fragments", azureFragmentRows},
	{"11_4", "Life of a cluster", azureLifeRows},
}

// The documents, by the names that the rows have for them.
const (
	docStandardLB   = "aks-lb"
	docOverlay      = "aks-overlay"
	docDualStack    = "aks-dual"
	docNodePublicIP = "aks-node-ip"
	docNATGateway   = "aks-nat"
	docEgress       = "aks-egress"
	docPlan         = "aks-plan"
	docUpgrade      = "aks-upgrade"
	docNode         = "aks-node"
	docProvider     = "provider"
	docKubernetes   = "k8s"
	docMasquerade   = "masq-agent"
	docLinux        = "linux"
	docOutbound     = "lb-outbound"
	docLimits       = "limits"
	docNetwork      = "vnet"
	docRules        = "lb-rules"
	docReset        = "lb-reset"
	docDistribution = "lb-modes"
	docProbes       = "lb-probes"
	docAdminState   = "lb-admin"
	docFloatingIP   = "lb-floating"
	docHAPorts      = "lb-ha"
	docNATRules     = "lb-nat-rules"
	docConcepts     = "lb-concepts"
	docDeployment   = "lb-errors"
	docPublicIP     = "public-ip"
	docGateway      = "nat-gateway"
	docSecurity     = "nsg"
	docSNATOptions  = "snat-options"
	docSKUs         = "aks-skus"
	docAnanta       = "ananta"
	docOurs         = "ours"
)

var azureDocuments = []struct{ name, title string }{
	{docStandardLB, `"Use a public standard load balancer in AKS" and what AKS says of several ones`},
	{docOverlay, `"Azure CNI Overlay networking" and how to expand its pod CIDR`},
	{docDualStack, `"Use dual-stack networking in AKS"`},
	{docNodePublicIP, `"Use instance-level public IPs in AKS"`},
	{docNATGateway, `"Create a managed or user-assigned NAT gateway for AKS"`},
	{docEgress, `"Customize cluster egress with outbound types" and static egress gateways`},
	{docPlan, `"Plan IP addressing for your cluster", "AKS CNI networking overview" and the limits of large clusters`},
	{docUpgrade, `"Upgrade options and recommendations for AKS clusters"`},
	{docNode, "AKS on its nodes: AgentBaker, LocalDNS, restricted IMDS, custom node configuration"},
	{docProvider, "cloud-provider-azure: its documents on load balancers and Private Link, and its source"},
	{docKubernetes, `Kubernetes: "Using Source IP", "Virtual IPs and Service Proxies"`},
	{docMasquerade, "ip-masq-agent-v2"},
	{docLinux, "nf_nat and nf_conntrack"},
	{docOutbound, `"Use SNAT for outbound connections", service endpoints`},
	{docLimits, "Azure's limits of subscriptions and services, public IP prefixes"},
	{docNetwork, "throughput of machines, performance tuning of TCP/IP in virtual networks"},
	{docRules, `"Outbound rules Azure Load Balancer"`},
	{docReset, `"Load Balancer TCP Reset and Idle Timeout"`},
	{docDistribution, `"Azure Load Balancer distribution modes"`},
	{docProbes, `"Azure Load Balancer health probes"`},
	{docAdminState, `"Administrative state (admin state) in Azure Load Balancer"`},
	{docFloatingIP, `"Azure Load Balancer Floating IP configuration" and multiple frontends`},
	{docHAPorts, `"High availability ports overview"`},
	{docNATRules, `"Inbound NAT rules"`},
	{docConcepts, `"Azure Load Balancer components and limitations", SKUs`},
	{docDeployment, `"Troubleshoot common Azure deployment errors with Azure Load Balancer"`},
	{docPublicIP, `"Public IP addresses in Azure"`},
	{docGateway, `"Azure NAT Gateway resource", its overview and SKUs`},
	{docSecurity, `"Azure network security groups overview"`},
	{docSNATOptions, `"SNAT options for Azure VM", jpaztech`},
	{docSKUs, "what an AKS cluster leaves by, by the SKU of its load balancer"},
	{docAnanta, `"Ananta: Cloud Scale Load Balancing", SIGCOMM 2013`},
	{docOurs, "no document: our choice"},
}

var azurePolicyRows = []AzureRow{
	{"4_5_policyCluster", docStandardLB, All, "Policy Cluster: any healthy node takes the packet, the pod sees that node, also where it is local.", ""},
	{"4_5_policyLocal", docStandardLB, All, "Policy Local: only nodes with a ready pod take packets, by their health check; the pod sees the client; elsewhere it is dropped.", ""},
	{"4_5_clusterIPFromPod", docKubernetes, All, "Pod to ClusterIP: the pod's own address is seen.", ""},
	{"4_5_podToBalancerCluster", docKubernetes, All, "Pod to load balancer address, policy Cluster: stays on the node, the node is seen.", ""},
	{"4_5_podToBalancerLocal", docKubernetes, All, "The same with policy Local: treated as Cluster, the pod is seen.", ""},
	{"4_5_nodeToBalancer", docKubernetes, All, "Node to load balancer address: stays on the node, the node is seen.", ""},
	{"4_5_hairpin", docKubernetes, All, "A pod that reaches itself through a Service sees its node.", ""},
	{"4_5_backendChoice", docKubernetes, All, "Endpoints are chosen at random per connection.", ""},
	{"4_5_affinity", docProvider, All, "ClientIP affinity: the same endpoint for 10,800 s of a client, and the rule distributes by SourceIP.", ""},
	{"4_5_floatingIP", docProvider, All, "The load balancer's packet is for frontend and Service port; without floating IP, or internal and IPv6, for node and node port.", ""},
	{"4_5_ipv6NeedsLocal", docOverlay, All, "Services of IPv6 on Azure Linux need policy Local.", ""},
}

var azureAnnotationRows = []AzureRow{
	{"4_6_internal", docStandardLB, All, "azure-load-balancer-internal: an internal load balancer.", ""},
	{"4_6_internalSubnet", docStandardLB, All, "azure-load-balancer-internal-subnet: where its frontend is.", ""},
	{"4_6_addresses", docProvider, All, "azure-load-balancer-ipv4, -ipv6: the frontend's address, which Services may share.", ""},
	{"4_6_publicIPNames", docProvider, All, "azure-pip-name, azure-pip-prefix-id, with -ipv6: a public IP by name, or the next one of a prefix.", ""},
	{"4_6_ipTags", docProvider, All, "azure-pip-ip-tags: tags of the public IP; they change no packet.", ""},
	{"4_6_dnsLabel", docStandardLB, All, "azure-dns-label-name: a name in DNS; it changes no packet.", ""},
	{"4_6_resourceGroup", docStandardLB, All, "azure-load-balancer-resource-group: where the public IP is kept; it changes no packet.", ""},
	{"4_6_sharedRule", docStandardLB, All, "azure-shared-securityrule: rules are shared, which changes no packet.", ""},
	{"4_6_allowedSources", docProvider, All, "azure-allowed-service-tags, azure-allowed-ip-ranges: who may send.", ""},
	{"4_6_denyAll", docProvider, All, "azure-deny-all-except-load-balancer-source-ranges: all others are denied.", ""},
	{"4_6_tcpIdleTimeout", docProvider, All, "azure-load-balancer-tcp-idle-timeout: 4 to 30 minutes, 4 by default.", ""},
	{"4_6_disableTCPReset", docStandardLB, All, "azure-load-balancer-disable-tcp-reset: connections end silently; by default both ends are reset.", ""},
	{"4_6_haPorts", docProvider, All, "azure-load-balancer-enable-high-availability-ports: one rule for all ports of an internal frontend.", ""},
	{"4_6_disableFloatingIP", docProvider, All, "azure-disable-load-balancer-floating-ip: node and node port instead of the frontend.", ""},
	{"4_6_additionalPublicIPs", docProvider, All, "azure-additional-public-ips: further frontends.", ""},
	{"4_6_mode", docProvider, All, "azure-load-balancer-mode: which Basic load balancer; with Standard only default.", ""},
	{"4_6_healthProbe", docProvider, All, "azure-load-balancer-health-probe-protocol, -interval, -num-of-probe, -request-path: the probe of all ports.", ""},
	{"4_6_portNoRules", docStandardLB, All, "port_N_no_lb_rule, port_N_no_probe_rule: a port without rule, or without probe.", ""},
	{"4_6_portHealthProbe", docStandardLB, All, "port_N_health-probe_...: the probe of one port, which wins over that of all.", ""},
	{"4_6_defaultProbe", docProvider, All, "The probe without annotations, by policy, protocol and appProtocol; in mode Shared one for all on 10256.", ""},
}

var azureOverlayRows = []AzureRow{
	{"5_podBlock", docOverlay, All, "Every node has a /24 of the pod CIDR of its own, a new one the next that is free.", ""},
	{"5_podCIDRDefault", docOverlay, All, "Pods are in 10.244.0.0/16 and fd12:3456:789a::/64 by default.", ""},
	{"5_serviceCIDRDefault", docOverlay, All, "Services are in 10.0.0.0/16 and fd12:3456:789a:1::/108 by default.", ""},
	{"5_podBlockIPv6", docDualStack, All, "A node's block of IPv6 is a /80.", ""},
	{"5_maxPods", docOverlay, All, "A node runs 250 pods, or 10 to 250 as its pool says, which is fixed.", ""},
	{"5_clusterSize", docPlan, All, "5,000 nodes a cluster, 1,000 a pool.", ""},
	{"5_nodesByPodCIDR", docOverlay, All, "A pod CIDR serves as many nodes as it has blocks.", ""},
	{"5_nodesBySubnet", docOverlay, All, "A subnet serves as many nodes as it has addresses, less five.", ""},
	{"5_dnsServiceIP", docOverlay, All, "The DNS Service has its address in the service CIDR, 10.0.0.10 by default, never the first.", ""},
	{"5_serviceCIDRSize", docOverlay, All, "The service CIDR is smaller than a /12, of IPv6 no larger than a /108.", ""},
	{"5_overlaps", docOverlay, All, "Pod and service CIDRs overlap neither each other nor subnets nor connected networks.", ""},
	{"5_samePodCIDR", docOverlay, All, "Clusters of one VNet may have the same pod CIDR.", ""},
	{"5_reservedRanges", docPlan, All, "169.254.0.0/16, 172.30.0.0/16, 172.31.0.0/16 and 192.0.2.0/24 are for nobody.", ""},
	{"5_ipFamilies", docOverlay, All, "ipv4 or ipv4,ipv6; CIDRs match in number and order.", ""},
	{"5_dualStackNotWith", docOverlay, Partly, "Dual stack does not go with a NAT gateway of SKU Standard, Azure NPM and Calico.", "Virtual nodes and versions are not modelled."},
	{"5_names", docOverlay, All, "Names of subnet, VNet and its resource group have at most 63 characters.", ""},
	{"5_dualStackServices", docOverlay, Partly, "A Service of two families has a public address of each.", "Versions are not modelled: before Kubernetes 1.27 only the first family has one."},
	{"5_ipv6Services", docOverlay, All, "Probes of IPv6 find no node of Azure Linux healthy with policy Cluster.", ""},
	{"5_refusedWithOverlay", docOverlay, OutOfScope, "Availability sets, Application Gateway, DCsv2 nodes and virtual nodes do not go with it.", "No field of a configuration asks for them; package manifest refuses what az prints of them, and lists an Application Gateway as not modelled."},
	{"5_poolSubnet", docOverlay, All, "A pool may have a subnet of its own.", ""},
	{"5_expandPodCIDR", docOverlay, All, "A pod CIDR of IPv4 may grow into a larger one, under traffic.", ""},
	{"5_windows", docOverlay, Partly, "Windows nodes have 64 ports for their pods, by destination, unless OutboundNAT is off, with a NAT gateway or routes of the user only, and without node public IPs.", "Without OutboundNAT packets leave with the node's address all the same."},
	{"5_podToPod", docOverlay, All, "Pod to pod: unchanged.", ""},
	{"5_podToClusterIP", docOverlay, All, "Pod to ClusterIP or DNS: the destination is rewritten on the node, the pod is seen.", ""},
	{"5_podToVNet", docOverlay, All, "Pod to VNet, peered or connected network: the node is seen.", ""},
	{"5_podToInternet", docOverlay, All, "Pod to Internet: the node's address, then that of the outbound type.", ""},
	{"5_nodeToPod", docOverlay, All, "Node to pod: the node is seen.", ""},
	{"5_podToPlatform", docMasquerade, All, "Pod to link-local and platform addresses: the node is seen.", ""},
	{"5_outsideToPod", docOverlay, All, "The Internet reaches no pod.", ""},
	{"5_hostInsidePodCIDR", docOverlay, All, "A host that has an address of the pod CIDR is out of reach for pods.", ""},
	{"5_masquerade", docMasquerade, Partly, "Destinations in NonMasqueradeCIDRs see the pod, all others that are not local the node.", "There is one list, which holds at once; several config maps and their reading anew are not modelled."},
	{"5_nodePorts", docOurs, All, "A node keeps a source port if it is free towards the destination, else takes another.", ""},
	{"5_securityRules", docOverlay, All, "Groups see pods by their addresses; where rules deny, node to node, node to pod and pod to pod need allowing.", ""},
	{"5_kubenet", docPlan, All, "kubenet: a /24 per node and a route each, 400 nodes, 110 pods by default, Linux and Calico only.", ""},
	{"5_vnetCNI", docPlan, All, "Node subnet CNI: pods have addresses of the subnet; the VNet sees them, others the node.", ""},
}

var azureNodePublicIPRows = []AzureRow{
	{"6_enable", docNodePublicIP, Partly, "Each node of a pool has a public address of its own and leaves by it one to one; it stays so, and idles for 4 minutes.", "Of its pods TCP and UDP leave by it, echo and datagrams in pieces do not."},
	{"6_prefix", docNodePublicIP, All, "A /28 serves 16 nodes.", ""},
	{"6_dualStack", docNodePublicIP, All, "Of two families both prefixes are given.", ""},
	{"6_ipTags", docNodePublicIP, All, "The tag RoutingPreference=Internet.", ""},
	{"6_allowedHostPorts", docNodePublicIP, All, "A comma list of port/protocol and start-end/protocol.", ""},
	{"6_validExamples", docNodePublicIP, All, "The lists that the document shows.", ""},
	{"6_effect", docNodePublicIP, All, "Rules of the cluster's group for a security group of the pool's nodes; the group of the subnet is the user's.", ""},
	{"6_parser", docOurs, All, "1 to 65535, start not after end, any case, spaces trimmed; overlaps are allowed.", ""},
	{"6_automatic", docNodePublicIP, All, "The annotation assigns host ports to container ports that the pod has, single ones.", ""},
	{"6_range", docNodePublicIP, All, "Out of 40000 to 59999, unique in the cluster.", ""},
	{"6_variable", docNodePublicIP, All, "The variable is <deployment>_PORT_<port>_<PROTOCOL>_HOSTPORT.", ""},
	{"6_onceWhateverProtocol", docOurs, All, "A number is given once, whatever the protocol.", ""},
	{"6_defaultGroup", docNodePublicIP, All, "Without allowed host ports the group blocks them.", ""},
	{"6_versions", docNodePublicIP, OutOfScope, "From AKS 1.24, now 1.29.", "Versions are not modelled."},
}

var azureInsideRows = []AzureRow{
	{"11_1_firstPacket", docLinux, All, "Only the first packet of a connection is asked about; whatever answers goes back untranslated.", ""},
	{"11_1_everyProtocol", docOverlay, All, "Between nodes, pods and VNet every protocol and fragments pass.", ""},
	{"11_1_podToOwnNode", docMasquerade, All, "Pod to its own node: the pod is seen.", ""},
	{"11_1_podToOtherNode", docMasquerade, All, "Pod to another node: its node is seen.", ""},
	{"11_1_podToVNetTimers", docLinux, All, "Pod to VNet: the timers of the node's conntrack, no reset, no outbound port.", ""},
	{"11_1_nodeUnasked", docOverlay, All, "What is sent to a node unasked is delivered, if groups allow it.", ""},
	{"11_1_platform", docNode, All, "Pods do not reach 168.63.129.16 by TCP on ports 80 and 32526; nodes do.", ""},
	{"11_1_restrictIMDS", docNode, All, "With the restriction pods do not reach 169.254.169.254; nodes do.", ""},
	{"11_1_localDNS", docNode, Partly, "Pods ask the DNS cache of their node, and nothing leaves it.", "What the cache asks in turn is for the caller to send, as the node."},
	{"11_1_dnsLimits", docLimits, Partly, "Azure DNS answers 1,000 queries a second of a VM, 200 at a time: an option.", "Queries over TCP are not counted."},
}

var azureCeilingRows = []AzureRow{
	{"11_2_connections", docNetwork, Partly, "500,000 connections of a VM: an option.", "What pods send each other is not counted, nor what is translated one to one, for nobody remembers these flows."},
	{"11_2_conntrack", docNode, Partly, "The size of a node's conntrack, by its memory: an option.", "What pods send each other is not counted, nor what is translated one to one."},
	{"11_2_ephemeralPorts", docNode, All, "A node's own sockets have 28,232 ports for a destination: an option.", ""},
	{"11_2_firewall", docNATGateway, OutOfScope, "Ports of an Azure Firewall behind a route.", "It is a resource of its own; the user's next hop may be one."},
	{"11_2_basic", docLimits, Partly, "A Basic load balancer has 300 backends, 200 frontends, no outbound rules and no resets.", "The 301st node is refused once there is a Service."},
	{"11_2_prefixSizes", docLimits, All, "Public prefixes are /28 to /31, of IPv6 /124 to /127; larger ones are own ranges.", ""},
	{"11_2_pods", docPlan, All, "200,000 pods a cluster, though its nodes could run more.", ""},
}

var azureFragmentRows = []AzureRow{
	{"11_3_fragments", docNetwork, Partly, "Fragments pass if their first one has been seen.", "What stays in the network passes in any order, and nothing is cut at 1,400 bytes."},
}

var azureLifeRows = []AzureRow{
	{"11_4_surge", docUpgrade, All, "Surge is cut to the nodes that a pool has; a percentage is rounded up; maxUnavailable is for where there is no surge.", ""},
	{"11_4_upgradeOrder", docUpgrade, All, "Surge nodes come, old ones are cordoned, drained, soak and are reimaged, one buffer after the other; surge nodes go last.", ""},
	{"11_4_automaticPorts", docStandardLB, All, "Automatic ports serve a cluster of any size: from 1,000 nodes on 32 in total, or the most that fit.", ""},
	{"11_4_addFrontend", docStandardLB, All, "Another frontend ends no flow.", ""},
	{"11_4_outboundType", docEgress, All, "The outbound type may change from each to each; flows to the Internet end.", ""},
	{"11_4_gatewayV2", docNATGateway, All, "A gateway V2 has 1 to 16 addresses of each family.", ""},
	{"11_4_apiServer", docNATGateway, All, "Traffic of the nodes to the API server takes the outbound type.", ""},
	{"11_4_reconcile", docStandardLB, OutOfScope, "What is changed by hand vanishes when AKS reconciles.", "The load balancer of a cluster changes by the cluster's configuration only."},
	{"11_4_serviceEndpoints", docOutbound, All, "Service endpoints: no SNAT; connections that are open close at the switch, on or off: both ends are reset.", ""},
	{"11_4_privateEndpoint", docOutbound, All, "A private endpoint is an address of the VNet: no SNAT.", ""},
	{"11_4_staticEgress", docEgress, Partly, "Static egress gateways: annotated pods leave through a gateway pool with a prefix.", "Gateways with private addresses are not modelled."},
	{"11_4_severalLoadBalancers", docStandardLB, OutOfScope, "Several Standard load balancers.", "They are resources with a control loop of their own."},
	{"11_4_privateLink", docProvider, OutOfScope, "Private Link Services.", "They are resources of their own."},
	{"11_4_userReports", docOurs, OutOfScope, "What users report and no document says: ports of closed connections that stay allocated, connections that drop where a node is added.", "No document says so."},
}
