// Package lb models Azure load balancers: their resources, who gets which SNAT
// ports, and which of Azure's outbound options applies to a network interface.
// It compiles a [Config] into a translator of package snat, which does all the
// work per packet. It knows nothing of pods and clusters.
//
// Terminology, used exactly so in names and comments:
//   - Frontend: one public IP address of the load balancer. A frontend IP
//     configuration holds one address or one prefix, and so one frontend or more.
//   - Backend: a virtual machine or node, reached through one IP configuration
//     per address family; it becomes an instance of the translator.
//   - Pool: the backends that a rule serves. Pool size counts the backends that
//     have an address of the family in question.
//   - Block: [snat.BlockSize] consecutive ports; the unit in which ports are
//     granted, and lost to rules.
//   - Automatic, manual: AllocatedOutboundPorts 0, where the pool size decides
//     ([AutomaticPorts]), and a fixed number of ports per backend.
//   - Demand: the ports that one rule claims for each backend of its pool.
//
// TCP and UDP have separate ports, and so have IPv4 and IPv6: a rule with
// frontends of both families allocates in each of them for itself. Where Azure's
// behavior is not published, the comment of the field or function says that it
// is our choice, and names the option if there is one.
//
// Load-balancing and inbound NAT rules take part as far as SNAT is concerned:
// their frontend ports take blocks away, they may lend their frontends to
// outbound flows, and they conflict with outbound rules. Nothing is balanced yet
// (November 2026): a packet from outside to a rule's port finds no session and is
// dropped, and counted.
//
// Planning ([Config.Validate], [Config.Plan], [Capacity], [ChooseSNAT]) is made of
// pure functions, which any number of goroutines may call. A [LoadBalancer] is
// safe for concurrent use.
//
// Sources are Microsoft's public documents: "Use Source Network Address
// Translation (SNAT) for outbound connections", "Outbound rules", "Load Balancer
// TCP reset and idle timeout", "Azure Virtual Network NAT", and for AKS "Use a
// public standard load balancer" and the error article on
// InvalidLoadBalancerProfileAllocatedOutboundPorts. Comments call them the
// outbound connections, outbound rules, TCP reset, NAT and AKS documents.
package lb
