// Command capacity answers what operators of an AKS cluster ask about its SNAT ports before Azure
// does: are there enough, from when on not, who holds them, what would another setting change, and
// which is the cheapest one that refuses and cuts nothing. It sends a workload through a simulated
// cluster in virtual time, as real packets, under each setting.
//
//	go run ./examples/capacity                                       # a story
//	go run ./examples/capacity -html report.html                     # the same as a page with plots
//	go run ./examples/capacity -scale nodepool1=80 -until 2h         # the same with more nodes
//	go run ./examples/capacity -cluster shop.yaml -workload traffic.yaml -until 24h -recommend
//	go run ./examples/capacity -trace flows.csv -sweep 'ips=1..8 ports=auto,1024,2048 idle=4m,10m,30m'
//	go run ./examples/capacity -upgrade 'pool=nodepool1 at=20m surge=33%'
//	go run ./examples/capacity -story list                           # the advice of the field
//
// Terminology is that of package whatif: a conversation is a TCP connection or UDP socket of a pod; it is
// refused if its first packet is dropped, and may succeed later; cut if the NAT has reset it, and
// broken if the NAT has forgotten it.
//
// # Flags
//
//	-cluster FILE      the cluster and its pods; may be given several times
//	-workload FILE     what the pods send
//	-trace FILE        what hosts have sent, to be sent again
//	-inside CIDR,..    the hosts of a capture
//	-story NAME        an advice of the field, with the numbers before and after; list lists them
//	-until LONG        how long the traffic goes on, up to 744h (default 1h)
//	-scale POOL=N,..   begin with another number of nodes
//	-sweep SETTINGS    all combinations of settings, see below
//	-warm-up LONG      how long the cluster goes on as it is before -sweep changes it (default 0s)
//	-upgrade SETTINGS  an upgrade of a node pool under the workload, see below
//	-recommend         find the cheapest setting
//	-headroom PERCENT  of a node's ports that -recommend keeps free at the peak (default 20)
//	-accept-cuts       let -recommend take idle timeouts that cut connections
//	-seed NUMBER       decides all chance (default 1)
//	-html FILE         write a page with plots, besides the report
//	-json, -csv        the report for programs
//
// Each flag may be given once, but for -cluster.
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
// pods of all nodes. -trace and -workload may be given together. Without -cluster the
// pods are those of the story: three nodes with six pods orders, three pods worker and six pods web
// on each. Files of YAML are read by a module of its own, ./examples/capacity/cluster, which needs
// k8s.io: this command builds and runs that, so the go command and the source have to be there, and
// the first time a module proxy. So is the page drawn, by ./examples/capacity/page.
//
// -scale gives pools another number of nodes before anything else. Pods are placed on as many nodes
// as there are then; those that find no room are pending, and told.
//
// # Settings
//
// -sweep tries all combinations of settings, at most 1,000, each from an empty cluster on:
//
//	ips=1..8                  managed outbound IPs
//	ports=auto,1024           SNAT ports of each node of a load balancer
//	idle=4m,30m               idle timeout
//	outbound=managedNATGateway,loadBalancer   outbound type, and managedNATGatewayV2
//	nodes=3..5, nodes(POOL)   nodes of all pools or of one
//	surge=1,33%, surge(POOL)  nodes that an upgrade adds, for which ports are kept
//	reset=on,off              RSTs to connections that reach the idle timeout
//	dns-cache=0s,30s          a cache for all lookups of the workload
//	reuse=on,off              pools of connections instead of one for each request
//	close=on,off              clients close what they would abandon
//	keepalive=0s,1m           TCP keep-alive probes
//
// What cannot be, such as more ports than the IPs have, is told in the row. With -warm-up a row is what
// happens if the running cluster is changed to the setting at that moment, its flows included; refusals before
// that count in all rows. Traffic cannot be changed then, nor can nodes be taken away. -recommend searches by
// simulation, of whatever is in -until: a shorter run may recommend too little. It tries idle
// timeouts of 4, 5, 10, 15, 20, 30, 45, 60, 90 and 120 minutes, none that is longer than the run, and
// takes such that cut connections with -accept-cuts only.
//
// -upgrade upgrades a node pool under the workload, as package overlay/upgrade does: surge nodes come,
// nodes are drained and made anew, and pods move, whose conversations end. It is beside the cluster as it is in
// the report:
//
//	pool=nodepool1   which one; has to be given
//	at=10m           when it begins, before the run ends (default 0s)
//	surge=33%        nodes that it adds (default that of the pool)
//	unavailable=0    nodes that may be drained without one in their place
//	drain=1m         how long pods take to leave a node
//	soak=0s          from drained to made anew
//	reimage=5m       how long a node takes to be made anew
//
// # The page
//
// -html writes one file, which asks nobody for anything: what to change and why, with the numbers
// before and after, then how full the nodes were over time, what held the ports, refusals by setting, how long
// the ports last, and the tables of all that. It follows the reader's light or dark theme. The file is there
// as a whole or not at all.
//
// # The report for programs
//
// -json prints one object; times are seconds since the beginning. Names stay; more may come:
//
//	settings                  the flags in force: cluster[], workload, trace, traceFlows, untilSeconds, sweep,
//	                          warmUpSeconds, scale (nodes by pool), recommend, headroomPercent, acceptCuts, upgrade,
//	                          story, seed
//	cluster                   what the cluster is: name, nodes, pools, pods, outboundType, ips, portsPerNode (0 where
//	                          they are shared), idleSeconds, holdSeconds (after FIN), notModelled[], pending[]
//	story                     name, title, why and advice of -story, or null
//	skipped[]                 what of the trace is left out
//	complete                  false after Ctrl-C
//	headline                  good, verdict, change, why, and before and after: setting, conversations, refused,
//	                          ended (cut or broken), peakShare
//	asItIs                    the result without changes:
//	  total, traffic[]        of all, and by name: arrivals, cached, waited, conversations, retries, established,
//	                          exchanges, completed, abandoned, refusedPackets, refused, refusedShare,
//	                          firstRefusedSeconds, failed, cut, broken, noPort; go doc whatif.Counts says what
//	                          each is
//	  peak                    what the ports were in use for, flows and held ports, in the sample when most were, at
//	                          peakSeconds: ports (of the sample, or the peak of a node or IP if that is more), busy, idle,
//	                          udp, udpWaiting, abandoned, heldFIN, heldRST, heldUDP
//	  peakShare               of the ports of the fullest node, 0..1
//	  outbound, inbound, ..   packets, outboundDropped and inboundDropped of them; resets: RSTs that pods got
//	  refusals[]              reason, sentence, packets, firstSeconds
//	  nodes[], frontends[]    name or ip, ipv6, protocol, allocatedPorts, peakPorts, p99Ports
//	  stranded[]              nodes that refused: name, ipv6, protocol, failed, freePorts, freeElsewhere (of other nodes)
//	  groups[], hosts[], destinations[]  workloads of pods, pods, and what they talk to, at most 50 of each: name,
//	                          protocol, atPeakPorts, created (flows), suffered (first packets of its own that were
//	                          refused), blamed (those that were refused because of the ports that it held)
//	  foretold[]              node, destination, protocol, cause, saidSeconds (when it was first foretold that ports run
//	                          out), foretoldSeconds (for when, from earliestSeconds to latestSeconds, 0 if a leak may
//	                          level off before), halfSeconds (what was foretold half of the way later),
//	                          exhaustedSeconds (when they had run out; 0 if they have not)
//	  course                  at each of seconds[] refused[], uses[] (as peak) and nodes[] (allocated, used)
//	sweep[]                   setting, and error or result (as above, without the lists)
//	recommendation            ips, portsPerNode, idleSeconds, setting, command, mind[], the result, and as
//	                          proof leastPorts and what 8 fewer come to (refusing); needed[] and free[]: what of it is
//	                          needed, and what may be as it is as well; from shortestIdleSeconds on all idle
//	                          timeouts do, and with tooLongIdleSeconds none does; null if not asked for
//	noSetting                 why there is no recommendation, if none does
//	upgrade                   pool, beginSeconds, endSeconds, steps[] (seconds, action, nodes), mostNodes, moved (pods),
//	                          lost (conversations), and the result; null if not asked for
//	findings[]                code and text of what the run shows
//
// -csv prints a line for each setting, with a header: first the one as it is, then those of the sweep, the
// recommended one, and the upgrade. Columns are named as the fields of total, peak and the result above, and more may
// come before the last; abandoned is that of peak. The last is the error, where a setting cannot be.
//
// # Results
//
// The same flags and files give the same report, byte for byte, however many cores there are. The
// exit status is 0 on success, refusals or not, 2 for a wrong command line, 130 after Ctrl-C or SIGTERM, which prints
// what is done by then, and 1 for everything else, of which all problems are told and nothing is
// printed. On a terminal a bar shows how much is done, and how long the rest may take.
package main

import (
	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	cluster := command.Elsewhere{Name: "capacity", Dir: "examples/capacity/cluster", Option: "cluster or -workload"}
	page := command.Elsewhere{Name: "page", Dir: "examples/capacity/page", Option: "html"}
	command.Main(planner.Command{HandOver: cluster.HandOver, Page: page.Filter}.Run)
}
