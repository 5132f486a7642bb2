// Package manifest makes a cluster of package overlay out of what people have: Kubernetes
// manifests, what the Azure command line prints, and cluster files of our own.
//
//	kubectl get svc,deploy,sts,ds,netpol,ns -A -o yaml > objects.yaml
//	az aks show -g GROUP -n NAME -o json > aks.json
//	az network public-ip list -o json > addresses.json
//
// [Read] takes any of them, in any order; [Cluster.Start] starts the cluster with its pods,
// Services and host ports. It is a module of its own, so that the library does not depend
// on k8s.io.
//
// # What is read
//
// A file is YAML, with any number of documents, or JSON. What a document is, it says itself:
//
//	apiVersion: natplane/v1         a cluster file, at most one
//	apiVersion and kind otherwise   an object of Kubernetes, or a List of such
//	type of Azure, or its fields    a cluster, at most one; pools; what is around it in the network
//
// Unknown fields are errors, and so are wrong values; each error names file, line, field,
// value and rule, and all come at once. What is valid and cannot be modelled is in
// [Cluster.NotModelled], with file, line, field and reason.
//
// Of Kubernetes these are read: workloads (Deployment, StatefulSet, DaemonSet, ReplicaSet,
// ReplicationController, Job, Pod), Service, Endpoints, EndpointSlice, NetworkPolicy, Namespace, StaticGatewayConfiguration,
// and the ConfigMaps of ip-masq-agent.
//
//   - Of pods it is their number, labels, ports, hostNetwork, nodeName, nodeSelector,
//     tolerations and the annotations [overlay.HostPortAnnotation] and
//     [overlay.StaticGatewayAnnotation]; all else of them changes no packet here, and all pods are ready. A Job runs as many as it may have at once, and they do not end.
//     Where the pods of a workload are in the files as well, as kubectl prints them, they stand for
//     it. Addresses that kubectl prints of pods and nodes are not theirs here. Names of nodes lose the hash
//     that AKS puts into them.
//   - A Service is served by the pods that its selector finds, and without selector by the endpoints that
//     Endpoints and EndpointSlices of its name give: hosts outside of the cluster, or pods. It has the addresses
//     of its status if it asks for no others.
//   - NetworkPolicies are in force if the cluster has an engine for them: networkPolicy of az or
//     networkPolicyEngine of a cluster file; where no file says which, too, and as with calico then.
//     ipBlock is about pods, too, but not with cilium (our choice; "Azure CNI Powered by Cilium").
//     See package overlay for what they are asked about.
//   - azure-ip-masq-agent-config and azure-ip-masq-agent-config-reconciled, in kube-system, say what
//     pods reach with their own address: see [overlay.Masquerade].
//
// Kinds that change no packet, such as Secret, are passed over; all others are NotModelled.
//
// Of az these are read, each by itself or in a list:
//
//	az aks show, az aks nodepool list       addresses, pools, counts, outbound type, IPs and ports,
//	                                        public addresses and host ports of nodes, labels, taints
//	az network lb show, outbound-rule list  the outbound rule
//	az network nat gateway show             the gateway of userAssignedNATGateway
//	az network vnet show, subnet list,      ranges of the nodes' network and of what is connected
//	    peering list
//	az network public-ip list, prefix list  addresses of what all others, and annotations of Services, only name
//	az network lb rule list, probe list     nothing: they are those that AKS makes of the Services
//
// What AKS refuses together, such as availability sets, virtual nodes and machines of the DCsv2 series with
// Azure CNI Overlay, is refused here, too, once it is known which network plugin the cluster has.
//
// Names are compared without regard to case, because versions of az differ in it. What stands in two
// files has to be the same. Addresses can stand in a cluster file instead, under addresses, by the name
// or id of the resource, and ranges under vnet. Where no file has them, others of our choice stand
// for them, and NotModelled says which.
//
// # Cluster files
//
// A cluster file has the last word: what it says replaces what az says, but nodePools of
// the same name are changed in the fields that are there only. Its fields are those of
// [overlay.ClusterConfig] in lower camel case, and mean what they mean there. Functions
// cannot be given. Durations are written as 30m, constants by their names in Go's documentation or, where they
// have a String, as that prints them:
//
//	apiVersion, kind, name, networkPlugin, ipFamilies, podCIDRs, serviceCIDRs, dnsServiceIP,
//	    vnet, nodePools, loadBalancerSKU, publicIPs, publicIPPrefixes, outboundType,
//	    loadBalancerProfile, natGatewayProfile, staticGatewayConfigurations, masquerade,
//	    restrictIMDS, networkPolicyEngine, securityGroups, strictPodAddresses, ceilings,
//	    timeouts, tcp, udp, shards, seed, distributionKey, hashKey, icmp, fragments, holdSYN,
//	    lenient, reclaimGrace, countTraffic, countHolders, log, addresses
//	vnet: name, resourceGroup, addressSpaces, subnets, peeredPrefixes, serviceEndpoints
//	vnet.subnets[]: name, addressPrefixes
//	nodePools[]: name, count, minCount, maxCount, maxSurge, maxPods, subnet, localDNS, osType,
//	    osSKU, mode, gatewayPublicIPPrefixSize, disableOutboundNAT, nodePublicIP
//	nodePools[].nodePublicIP: enabled, prefixes, tags, allowedHostPorts
//	publicIPs[]: name, address
//	publicIPPrefixes[]: id, prefix
//	loadBalancerProfile: managedOutboundIPCount, managedOutboundIPCountIPv6,
//	    managedOutboundIPRanges, outboundIPs, outboundIPPrefixes, allocatedOutboundPorts,
//	    idleTimeout, disableTCPReset, frontendMode, layout, strict,
//	    clusterServiceLoadBalancerHealthProbeMode, ownRanges
//	natGatewayProfile: managedOutboundIPCount, managedOutboundIPCountIPv6, idleTimeout,
//	    natGateway
//	natGatewayProfile.natGateway: name, sku, publicIPAddresses, publicIPPrefixes, idleTimeout,
//	    generation
//	staticGatewayConfigurations[]: name, gatewayNodepoolName, publicIPPrefix, excludeCIDRs
//	masquerade: nonMasqueradeCIDRs, keepLinkLocal
//	securityGroups: virtualNetwork, serviceTags, applicationSecurityGroups,
//	    networkSecurityGroups, subnets, networkInterfaces, withoutGroup
//	securityGroups.serviceTags[]: name, prefixes
//	securityGroups.applicationSecurityGroups[]: name, addrs
//	securityGroups.networkSecurityGroups[]: name, securityRules
//	securityGroups.networkSecurityGroups[].securityRules[]: name, priority, direction, access,
//	    protocol, sourceAddressPrefixes, sourceApplicationSecurityGroups, sourcePortRanges,
//	    destinationAddressPrefixes, destinationApplicationSecurityGroups, destinationPortRanges
//	securityGroups.subnets[]: name, addressPrefixes, networkSecurityGroup
//	securityGroups.networkInterfaces[]: name, addrs, networkSecurityGroup
//	ceilings: vmConnections, conntrack, ephemeralPorts, dnsQueries, dnsPending
//	timeouts: tcpOpening, tcpEstablished, tcpHalfClosed, tcpClosing, tcpTimeWait, tcpReset,
//	    tcpResetSent, udp, udpReplied, icmp, udpHeld, tcpSynReceived, tcpCloseWait,
//	    tcpUnacknowledged
//	tcp: mapping, filtering, share
//	udp: mapping, filtering, share
//	icmp: queries, timestamps, queryPerDestination, randomIDs, allowShortTimeout, errors,
//	    publicAddrs, sourceQuench, lenientQuotes, ttl, mtu, refusals, problems,
//	    protocolUnreachable, silentInside, silentOutside, errorRate, errorBurst, routerAddrs
//	fragments: mode, lifetime, maxDatagrams, maxPerSource, maxPerDatagram, maxQueuedBytes
//	holdSYN: max, wait
//	lenient: tcpFlags, udpPortZero, udp6Zero
//	countHolders: on, window, idleAfter, limit
//	log: sessions, bindings, destinations, alarmInterval
//
// Constants, of which the first is the default:
//
//	networkPlugin: overlay, kubenet, nodeSubnet
//	nodePools[].osType: Linux, Windows
//	nodePools[].osSKU: Ubuntu, AzureLinux
//	nodePools[].mode: User, Gateway
//	loadBalancerSKU: Standard, Basic
//	outboundType: loadBalancer, managedNATGateway, managedNATGatewayV2, userAssignedNATGateway, userDefinedRouting, none, block
//	loadBalancerProfile.frontendMode: capped, multiply
//	loadBalancerProfile.layout: spread, pack
//	loadBalancerProfile.clusterServiceLoadBalancerHealthProbeMode: ServiceNodePort, Shared
//	natGatewayProfile.natGateway.sku: Standard, StandardV2
//	networkPolicyEngine: none, azure, calico, cilium
//	securityGroups.networkSecurityGroups[].securityRules[].direction: Inbound, Outbound
//	securityGroups.networkSecurityGroups[].securityRules[].access: Deny, Allow
//	securityGroups.networkSecurityGroups[].securityRules[].protocol: *, Tcp, Udp, Icmp, Esp, Ah
//	securityGroups.withoutGroup: closed, open
//	tcp.mapping: DefaultMapping, EndpointIndependent, AddressDependent, AddressAndPortDependent, PerConnection
//	tcp.filtering: DefaultFiltering, EndpointIndependentFiltering, AddressDependentFiltering, AddressAndPortDependentFiltering, PerConnectionFiltering
//	tcp.share: DefaultShare, SharePerAddress, SharePerDestination, ShareNever
//	udp.mapping: DefaultMapping, EndpointIndependent, AddressDependent, AddressAndPortDependent, PerConnection
//	udp.filtering: DefaultFiltering, EndpointIndependentFiltering, AddressDependentFiltering, AddressAndPortDependentFiltering, PerConnectionFiltering
//	udp.share: DefaultShare, SharePerAddress, SharePerDestination, ShareNever
//	icmp.ttl: TTLTransparent, TTLRouter
//	icmp.refusals: RefuseSilently, RefuseHostUnreachable, RefuseProhibited
//	fragments.mode: FragmentsDropped, FragmentsVirtual, FragmentsUDP, FragmentsForwarded
//
// addresses is a map from names or ids of public IPs and prefixes to their addresses.
//
//	apiVersion: natplane/v1
//	kind: Cluster
//	nodePools:
//	- {name: apps, count: 5, maxPods: 110}
//	loadBalancerProfile: {managedOutboundIPCount: 2, allocatedOutboundPorts: 8000, idleTimeout: 10m}
//	addresses: {egress-1: 198.51.100.7}
//
// Files without any description of a cluster run in one of three nodes, with all defaults.
//
// # Workload files
//
// What pods send, for package whatif, is a file of its own, which [ReadWorkload] reads:
//
//	apiVersion, kind, seed, traffic
//	traffic[]: name, from, to, rate, kind, rtt, think, requestBytes, answerBytes, requests,
//	    pause, keepAlive, end, connectTimeout, unanswered, retry, poolSize, poolIdle, cacheTTL,
//	    names, interval, duration
//	traffic[].from: pods, count
//	traffic[].to[]: addr, addresses, weight
//	traffic[].rate: perHost, total, daily, bursts, even
//	traffic[].rate.bursts[]: at, length, every, factor
//	traffic[].retry: attempts, backoff, factor
//
// Constants, of which the first is the default:
//
//	traffic[].kind: PerRequest, Pool, Lookup, Media
//	traffic[].end: ClientCloses, ServerCloses, ClientResets, Abandoned
//
// # Limits
//
// A file has at most 64 MiB of JSON or 16 MiB of YAML, and 4,194,304 values, a hundred deep,
// of which aliases of YAML stand for at most 100,000; all files together have at most [overlay.MaxPodsPerCluster] pods. A
// hundred problems are shown, and a thousand omissions.
//
// Nothing here is shared: any number of goroutines may read at once. A [Cluster] may be
// read and started by many at once as long as nobody changes it.
package manifest
