// Command egress sends real traffic out of a simulated AKS cluster. Pods of an
// Azure CNI Overlay cluster repeat recorded conversations (HTTP, TLS, DNS,
// QUIC-like UDP, IPv4 and IPv6) with servers on the Internet; every packet goes
// through the cluster's source NAT and back, and a report tells what that did to
// the SNAT ports.
//
//	go run ./examples/egress
//	go run ./examples/egress -pods-per-node 30           # more pods than ports
//	go run ./examples/egress -pods-per-node 30 -idle 4m  # a remedy
//	go run ./examples/egress -pcap my.pcapng -copies 100 -out captures
//	go run ./examples/egress -cluster aks.json -cluster shop.yaml
//	go run ./examples/egress -cluster shop.yaml -explain 'tcp pod/shop-0 > 203.0.113.80:443'
//
// Terminology: a recording is a capture file understood as conversations; every
// copy of it is performed by pods drawn at random, at its own time, with sequence
// numbers, timestamps and identifiers of its own. The hosts of a
// file of your own are pods instead, the same in every copy: the report calls them by
// their addresses and says where they were placed. Replies are sent to the address
// and port that the Internet saw, never looked up.
//
// Of a capture that is damaged or cut off its sound frames are played. What looks as if
// a network card was to compute it (checksums, lengths of TCP segments) is repaired,
// unless -checksums is keep; zeros stand for what a snap length has cut. The report
// tells.
//
// An outbound rule carries neither ICMP nor fragments; with -icmp pings are translated, with
// -fragments datagrams in pieces. A ping is the conversation of its identifier then, and
// a fragment belongs to that of its datagram's first, if that has come before it.
//
// # Clusters of files
//
//	kubectl get deploy,sts,ds,svc,netpol,ns -A -o yaml > objects.yaml
//	az aks show -g GROUP -n NAME -o json > aks.json
//	az network public-ip list -o json > addresses.json
//	go run ./examples/egress -cluster aks.json -cluster addresses.json -cluster objects.yaml
//
// With -cluster, which may be given several times, the cluster is the one of your files:
// Kubernetes manifests, what az aks and az network print of it (-o json), and cluster files, in
// which every field of overlay.ClusterConfig has its name in lower camel case. A directory
// is all its files *.yaml, *.yml and *.json, and - the standard input. A cluster file has the
// last word, and gives what az only names, such as the addresses of public IPs; go doc of
// overlay/manifest says what is read and lists its fields:
//
//	apiVersion: natplane/v1
//	kind: Cluster
//	nodePools:
//	- {name: apps, count: 5, maxPods: 110}
//	loadBalancerProfile: {managedOutboundIPCount: 2, allocatedOutboundPorts: 8000, idleTimeout: 10m}
//
// The pods of the files send the recording; without any there are -pods-per-node on every node.
// What is wrong is told by file, line, field, value and rule, all at once; what is right and
// not modelled is listed in the report. Files are read by a module of
// its own, ./examples/egress/cluster, which needs k8s.io: this command builds and runs that, so the go
// command and the source have to be there, and the first time a module proxy.
//
// # Explanations
//
// With -explain, which may be given several times, no traffic is played: it is told, hop by hop, what would
// become of a packet, such as
//
//	tcp 10.244.0.5:41000 > 203.0.113.80:443
//	udp pod/shop-0 > service/dns ttl 3
//	tcp 203.0.113.9 > lb/shop rst
//	icmp node/aks-apps-vmss000000 > 203.0.113.80 reply
//
// An end is an address or pod/NAME, node/NAME, public/NAME, service/NAME or lb/NAME (the address of the
// load balancer; public is that of a node); a name without namespace is one of default, or the only one
// of any namespace. Behind the ends may stand syn, ack, synack, fin or rst of tcp, reply and id NUMBER
// of icmp, ttl NUMBER, and length NUMBER for bytes of payload. A sender without port has 40000, and a
// Service that has one port has that. The verdict is forward for what goes on, with the addresses that
// the steps give it, bypass for what goes on as it is and nothing remembers, or drop with a reason.
// With -json it is a list of objects with packet, bytes, steps (at, decision), action and reason.
//
// # The report for programs
//
// -json prints all that the report shows as one object:
//
//	packets.outbound, .inbound          packets sent by pods, and by the Internet to what it saw
//	packets.forwarded, .bypassed,       by verdict; drops gives the dropped ones by reason
//	    .dropped
//	flows.created                       sessions created in the whole run
//	flows.active, .expired              when the traffic ended; the run then goes on until all
//	                                    flows are gone
//	snat.frontends[]                    ip, allocatedPorts, usedPorts (when the traffic ended, =
//	                                    activePorts + heldFINPorts + heldRSTPorts +
//	                                    heldUDPPorts), peakPorts; TCP and UDP added up
//	snat.connections.successful,        new flows that got a port, and that got none
//	    .failed
//	rst.generated                       RSTs made for idle connections, = .toPods + .toInternet
//	seconds.virtual, .wall              simulated and real time
//	settings                            the flags in force; .cluster, .notModelled are the files
//	                                    of -cluster, and what the cluster is without
//	frames, complete, written           what the capture holds, whether the run came to its
//	                                    end, the files of -out
//	conversations.recorded, .begun,     in the capture; by pods; without a port; reset while
//	    .refused, .cut, .local          idle with more to say; within the virtual network
//	nodes[], pods[], destinations[]     names, addresses, flows, refusals; of nodes the ports
//	                                    by protocol and usedHistory, fifty parts of the run
//	findings[]                          code and text of what the run shows
//	digest                              16 hexadecimal digits that all packets, verdicts and
//	                                    resets fold into: the same seed, the same digest
//
// # Results
//
// The same flags and capture give the same report, except for the wall-clock
// time, and byte-identical captures. The exit status is 0 on success, 2 for a wrong
// command line or packet of -explain, 3 if connections were refused and -fail-on-refusal is given, 130
// after Ctrl-C or SIGTERM, which prints what is known by then and writes no captures, and 1 for
// everything else, such as a pod in -explain that the cluster has not, or a run in which nothing was
// translated.
package main

import (
	"github.com/seed-a61be3fe/natplane/examples/egress/internal/story"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	cluster := command.Elsewhere{Name: "egress", Dir: "examples/egress/cluster", Option: "cluster"}
	command.Main(story.Command{HandOver: cluster.HandOver}.Run)
}
