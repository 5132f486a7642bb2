// Package nsg decides which new flows Azure's network security groups allow.
//
// Terminology, used exactly so in names and comments:
//   - Group: a network security group, a list of rules. It filters what it is
//     associated with: subnets, network interfaces, or both.
//   - Rule: a security rule. It has a priority, and fits a flow by direction,
//     protocol, and the address and port of both ends. Of the rules of a group that fit,
//     the one with the lowest priority decides.
//   - Default rule: one of the six that every group has and nobody can remove. See
//     [DefaultRules].
//   - Augmented rule: a rule with several prefixes or port ranges.
//   - Service tag: a named list of prefixes. Four are built in, the user supplies the
//     others. See [ServiceTag].
//   - Application security group: a named list of addresses, which a rule can name
//     instead of prefixes.
//   - Interface: the network interface whose groups are asked. Inbound it is where the
//     flow goes to, outbound where it comes from.
//   - Level: where a group is associated, subnet or interface. Inbound the subnet's group
//     is asked first, outbound the interface's. The flow needs the consent of both.
//   - The platform: 168.63.129.16, where probes, DNS and other services of the host have
//     their address, and 169.254.169.254, the metadata service.
//
// # What is asked when
//
// Groups are stateful. Only the first packet of a flow is asked about; its answers and all
// that follows belong to the session that the caller keeps. So a change of rules acts on
// new flows only: compile the new [Config], and ask the new [Compiled] from then on.
//
// Inbound flows are asked about after a public address has become private, and outbound
// ones before SNAT. The far end is the true client or server, not the load balancer. With
// floating IP the destination is still the frontend, and [Flow.Interface] says where the
// flow arrives.
//
// # The walk of one flow
//
// [Compile] checks the configuration and makes of each group and direction a list of
// rules, by priority, and tables of bits with one bit per rule: which rules an address
// fits as source, as destination, and the same of ports and protocols. [Compiled.Evaluate]
// then needs no search among rules. It finds the interface's groups; looks up both
// addresses and both ports; and the first bit that is set in all five rows is the rule
// that decides. Which rules an address fits depends on the longest of all prefixes that
// holds it, and on nothing else, so one table of package prefixes is enough for an end.
// [Compiled.Explain] goes through the rules one by one instead, and says of each what did
// not fit.
//
// A Compiled never changes. Any number of goroutines may ask it, and nothing allocates but
// Explain.
//
// # What it refuses to know
//
// It knows nothing of sessions, packets, backends and Services. It has no security admin
// rules, no flow logs, and no routes. Rules for Kubernetes' Services and for allowed host
// ports are made as data ([AddService], [AddHostPorts]); the caller puts them into a
// group.
//
// Sources are Microsoft's public documents: "Azure network security groups overview", "How
// network security groups filter network traffic", "Azure service tags overview",
// "Application security groups", "Azure Load Balancer SKUs", and the tables of "Azure
// subscription and service limits", all at learn.microsoft.com. Comments call them the
// overview, the filtering, the tags, the SKU and the limits document. What AKS does is in
// the source of kubernetes-sigs/cloud-provider-azure. "Our choice" marks what is not
// published.
package nsg
