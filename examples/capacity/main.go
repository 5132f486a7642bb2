// Command capacity answers what operators of an AKS cluster ask about its SNAT ports before Azure
// does: are there enough, from when on not, who holds them, what would another setting change, and
// which is the cheapest one that refuses and cuts nothing. It sends a workload through a simulated
// cluster in virtual time, as real packets, under each setting.
//
//	go run ./examples/capacity                                       # a story
//	go run ./examples/capacity -scale nodepool1=80 -until 2h         # the same with more nodes
//	go run ./examples/capacity -cluster shop.yaml -workload traffic.yaml -until 24h -recommend
//	go run ./examples/capacity -trace flows.csv -sweep 'ips=1..8 ports=auto,1024,2048 idle=4m,10m,30m'
//
// Terminology is that of package whatif: a conversation is a TCP connection or UDP socket of a pod; it is
// refused if its first packet is dropped, and may succeed later; cut if the NAT has reset it, and
// broken if the NAT has forgotten it.
//
// # What is simulated
//
// -cluster takes what it takes in go doc ./examples/egress: Kubernetes manifests, what az prints, and
// cluster files. -workload is a file with what the pods send; go doc of overlay/manifest
// has its fields, and those of [whatif.Class] say what they mean:
//
//	apiVersion: natplane/v1
//	kind: Workload
//	traffic:
//	- name: orders
//	  from: {pods: shop/orders}
//	  to: [{addr: '203.0.113.9:443'}]
//	  rate: {perHost: 2, bursts: [{at: 10m, length: 1m, every: 1h, factor: 20}]}
//	- {name: names, to: [{addr: '198.51.100.53:53'}], rate: {total: 20}, kind: Lookup, cacheTTL: 30s}
//
// -trace is what hosts have sent, to be sent again: a flow log in CSV, a log of network security
// groups or virtual networks, flows of Hubble (go doc of overlay/whatif/trace), or a capture,
// whose hosts are those of -inside. Hosts that are no pods of the cluster are dealt to the
// pods in turn. -trace and -workload may be given together. Without -cluster the
// pods are those of the story: three nodes with six pods orders, three pods worker and six pods web
// on each. Files of YAML are read by a module of its own, ./examples/capacity/cluster, which needs
// k8s.io: this command builds and runs that, so the go command and the source have to be there, and
// the first time a module proxy.
//
// -scale gives pools another number of nodes before anything else. Pods are placed on as many nodes
// as there are then.
//
// # Settings
//
// -sweep tries all combinations of settings, at most 1,000, each from an empty cluster on:
//
//	ips=1..8                  managed outbound IPs
//	ports=auto,1024           SNAT ports of each node
//	idle=4m,30m               idle timeout
//	outbound=managedNATGateway,loadBalancer   outbound type, and managedNATGatewayV2
//	nodes=3..5, nodes(POOL)   nodes of all pools or of one
//	surge=1,33%, surge(POOL)  nodes that an upgrade adds, for which ports are kept
//	reset=on,off              RSTs to connections that reach the idle timeout
//	dns-cache=0s,30s          a cache for all lookups of the workload
//	reuse=on,off              pools of connections instead of one for each request
//	keepalive=0s,1m           TCP keep-alive probes
//
// What cannot be, such as more ports than the IPs have, is told in the row. -recommend searches by
// simulation, of whatever is in -until: a shorter run may recommend too little. It takes no idle
// timeout that is longer than the run, and with -accept-cuts such that cut connections, too.
//
// # The report for programs
//
// -json prints one object; times are seconds since the beginning:
//
//	settings, cluster         the flags in force, and what the cluster is, .notModelled included
//	skipped                   what of the trace is left out
//	complete                  false after Ctrl-C
//	asItIs                    the result without changes: total and traffic[] (conversations,
//	                          refused, refusedShare, firstRefusedSeconds, failed, cut, broken, ..),
//	                          refusals[] by reason, nodes[] and frontends[] (allocatedPorts,
//	                          peakPorts, p99Ports), peak (what ports were in use for), peakShare
//	sweep[]                   setting, and error or result (as above, without the lists)
//	recommendation            ips, portsPerNode, idleSeconds, command, the result, and as proof
//	                          leastPorts and what 8 fewer come to (refusing); null if not asked for
//	noSetting                 why there is no recommendation, if none does
//	findings[]                code and text of what the run shows
//
// -csv prints a line for each setting, with a header: first the one as it is, last the recommended one.
//
// # Results
//
// The same flags and files give the same report, byte for byte, however many cores there are. The
// exit status is 0 on success, refusals or not, 2 for a wrong command line, 130 after Ctrl-C, which prints
// what is done by then, and 1 for everything else, of which all problems are told and nothing is
// printed.
package main

import (
	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	cluster := command.Elsewhere{Name: "capacity", Dir: "examples/capacity/cluster", Option: "cluster or -workload"}
	command.Main(planner.Command{HandOver: cluster.HandOver}.Run)
}
