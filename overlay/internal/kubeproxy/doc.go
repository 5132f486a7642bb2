// Package kubeproxy is what kube-proxy and the connection tracking of Linux do to
// packets on the nodes of a cluster: packets to a Service go to one of its endpoints,
// and what comes back looks as if the Service had sent it.
//
// Terminology, used exactly so in names and comments:
//   - Service: a name with frontends and ports. Its policies say which endpoints a node
//     may choose from.
//   - Frontend: the socket that a client addresses: a cluster IP, an address of a load
//     balancer, or a node's own address with a node port.
//   - Endpoint: a socket that serves a port of a Service, and the node it is on.
//   - Session: one connection through a Service on one node. It has four sockets: the
//     client, the frontend, what the endpoint sees in the client's place, and the
//     endpoint.
//   - Masquerade: to the endpoint the node is the client, with a port that the node
//     chooses.
//   - Short circuit: a packet of a pod or node to an address of a load balancer does
//     not leave the node.
//
// # The walk of a packet
//
// A node sees a packet in [Proxy.Translate]: one that a pod or process of its own sends,
// or one that arrives. Filters of bits, over all addresses and ports of Services and over all
// endpoints, say without a lock that nearly all other traffic is no concern of this
// package ([Proxy.Concerns] asks them before the packet is parsed). Else the packet belongs
// to a session of the node, as what the client sends or as an answer, and is rewritten in
// place; or it begins one (begin.go has the rules, in the order of those that kube-proxy
// writes in iptables mode); or it passes.
//
// # State and locks
//
// Nodes are spread over shards. A shard has a lock, under it the sessions of its nodes in
// a [flow.Shard] (pointer-free records, an index for both directions, timers), client
// affinities, datagrams in pieces, and the sequence of random numbers of each node, so that
// results do not depend on what other nodes do. The maps of frontends are read under the lock
// of any shard and changed under those of all, for as long as the change of one Service takes;
// the filters and the addresses of nodes are behind an atomic pointer, and the endpoints of a
// port behind another, so that a change of endpoints copies neither. Configuration has a lock
// of its own, which no packet takes; it is taken before those of shards, and these in
// ascending order. A [Batch] holds those of all its packets. Whatever the number of Services, a
// change costs what it changes, on average; see publish.go.
//
// Of a batch, a packet of TCP or UDP that is whole and follows upon others of its session is
// compared with that, followed and rewritten in one step (lane.forward and lane.reply), in either
// family; all else goes the way that single packets go. One filter spares a look-up: only where
// an endpoint has seen a client's own address that is another node's can its node know what it
// sends there, so such clients are noted, and other answers are sought on the other node alone.
//
// A session names its endpoint by an index. The endpoint's record is used again only when
// no session has it and when every shard has seen the set without it.
//
// # What is and what is not modelled
//
// TCP and UDP over IPv4 and IPv6, ICMP errors about sessions, fragments in order. SCTP
// passes untranslated. A UDP session whose endpoint is gone ends with its next packet,
// since kube-proxy deletes it; TCP goes on, since it does not. Session timers are those of
// nf_conntrack. Endpoints that terminate serve where nobody else does. What belongs to a Service
// without endpoints is dropped with the reason no_target; that kube-proxy rejects it is the
// caller's to tell. Not modelled: topology hints.
//
// Sources: the Kubernetes documents "Virtual IPs and Service Proxies" and "Source IP
// for Services with Type NodePort and LoadBalancer"; kube-proxy's iptables
// proxier; nf_conntrack and nf_nat of Linux.
package kubeproxy
