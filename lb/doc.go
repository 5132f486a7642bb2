// Package lb models Azure load balancers: their resources, who gets which SNAT
// ports, which of Azure's outbound options applies to a network interface, and which
// backends get what comes in. It compiles a [Config] into a translator of package snat,
// which does all the work per packet. It knows nothing of pods and clusters.
//
// Terminology, used exactly so in names and comments:
//   - Frontend: one address of the load balancer, public, or private if it is an
//     internal one. A frontend IP configuration has one address or one prefix, and so
//     one frontend or more.
//   - Backend: a virtual machine or node, reached through one IP configuration
//     per address family; it becomes an instance of the translator.
//   - Pool: the backends that a rule serves. Pool size counts the backends that
//     have an address of the family in question.
//   - Block: [snat.BlockSize] consecutive ports; the unit in which ports are
//     granted, and lost to rules.
//   - Automatic, manual: AllocatedOutboundPorts 0, where the pool size decides
//     ([AutomaticPorts]), and a fixed number of ports per backend.
//   - Demand: the ports that one rule claims for each backend of its pool.
//   - Group: the virtual machines of one availability set or scale set, which share
//     their eligibility for default outbound access.
//   - Grain: the minute that one sample of a metric stands for.
//
// TCP and UDP have separate ports, and so have IPv4 and IPv6: a rule with
// frontends of both families allocates in each of them for itself. Where Azure's
// behavior is not published, the comment of the field or function says that it
// is our choice, and names the option if there is one.
//
// # Inbound
//
// A packet to a port of a frontend is for the rule that opens the port, else for the flow
// of the backend that owns the port, else it is dropped. A load-balancing rule is a
// forward of the translator ([snat.Forward]) with a target for each backend of its pool
// that has an address of the frontend's family; an inbound NAT rule is one for each
// backend. The client stays the source, and the backend's answer leaves as the frontend. A
// new flow goes to one of the targets that are up, by a hash (see below); then it stays
// there, whatever becomes of the others.
//
// Rules take blocks of ports away from outbound flows, also under traffic; they may lend
// their frontends to outbound flows, and they conflict with outbound rules. Probes are
// made by Advance, in virtual time, and answered by Config.Prober; which states of targets
// follow, with administrative states, package lb/probe says ([probe.States]). A change of
// health stops no traffic. The state of probes has a lock of its own (lb/internal/health), which is
// taken after that of the configuration and before those of the translator.
//
// An internal load balancer ([FrontendIPConfiguration].PrivateIPAddress) never translates
// outbound flows. Its backends may be its clients: a flow whose target is its sender is
// dropped, as in Azure, where it times out.
//
// Our limit, November 2026: the traffic of all HA ports of a frontend is counted together.
//
// # Distribution
//
// Azure names the fields that decide where a new flow goes, not the function; the
// function is our choice. It does not depend on Seed. It is XXH64, seed 0, of these bytes,
// numbers with the most significant byte first:
//
//	8        [snat.Dataplane].DistributionKey
//	4 or 16  source address, that of the client
//	4 or 16  destination address, that of the frontend
//	2        source port        Default only
//	2        destination port   Default only
//	1        protocol           Default and SourceIPProtocol only
//
// The upper 17 bits number one of 131,072 slots. Backends claim slots in rounds, each by an
// order of its own that follows from its name and address, as in Maglev (NSDI 2016), but
// with rendezvous' rule: who finds a slot taken waits for the next round. With 100 backends
// the largest share is 1.03 of the mean, with 1,000 it is 1.05. When one of n backends
// leaves or comes, at most about 1/n of the new flows of all others go elsewhere; up to 10
// backends, none.
//
// # What runs
//
// A [LoadBalancer] is one load balancer with its rules, a [Gateway] one NAT gateway,
// whose backends share all ports. An [Egress] is a group with everything that decides
// how it reaches the Internet, a gateway included; it carries out what [ChooseSNAT]
// says, and is what a Basic load balancer needs if its Services come and go; internal
// load balancers may stand in front of the same machines ([InternalLoadBalancer]). Load
// balancer and egress can be changed while traffic flows, and then every backend keeps
// the ports that it can (keep.go, lb/internal/grants). Rules of one load balancer may differ in idle timeout
// and reset by pool and by protocol; two rules that serve one protocol of one backend may
// not, because the translator keeps a policy per instance and not per port.
//
// What is no business of these resources, from the number of locks to whether pings
// and fragments are carried, is the [snat.Dataplane] that each configuration has.
//
// [LoadBalancer.Metrics] and [Gateway.Metrics] read the metrics that Azure Monitor
// shows, with its names and dimensions (package lb/monitor). Who uses the ports is
// answered by [LoadBalancer.TopPorts] (by backend, pod and destination), and by
// [LoadBalancer.Stranded] (refusals while others have free ports).
//
// Which flows may begin is for network security groups to say (package lb/nsg), which a
// configuration has as NetworkSecurity. [LoadBalancer.SecurityGroups] explains.
//
// Planning ([Config.Validate], [Config.Plan], [Capacity], [ChooseSNAT]) is made of
// pure functions, which any number of goroutines may call. A [LoadBalancer],
// a [Gateway] and an [Egress] are safe for concurrent use.
//
// What Microsoft's documents say, row by row, and what is modelled of it: package lb/requirements.
//
// Sources are Microsoft's public documents: "Use Source Network Address
// Translation (SNAT) for outbound connections", "Outbound rules", "Load Balancer
// TCP reset and idle timeout", "Azure Virtual Network NAT", and for AKS "Use a
// public standard load balancer" and the error article on
// InvalidLoadBalancerProfileAllocatedOutboundPorts; for what comes in "Azure Load
// Balancer distribution modes", "Floating IP", "High availability ports", "Inbound NAT
// rules", "Administrative state", "Health probes" (the probe document) and "Troubleshoot
// common Azure deployment errors with Azure Load Balancer", which has the error codes; for metrics "Standard load
// balancer diagnostics" and "Azure NAT Gateway metrics". Comments call them the
// outbound connections, outbound rules, TCP reset, NAT, AKS and diagnostics
// documents.
package lb

// Where to look.
//
//	who gets which ports?        plan.go, layout.go; block by block, also on a change: lb/internal/grants
//	what do rules become?        forward.go, from openings (opening.go); package claims compares their ports
//	which SNAT option?           snatoption.go; at run time egressdecision.go
//	where is a field checked?    beside its type; names: resolve.go; several load
//	                             balancers: internallb.go
//	who probes?                  lb/internal/health, package lb/probe; for which rules: health.go
