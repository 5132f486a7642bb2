// Package life has only tests: the random life of a cluster, step by step compared with a
// naive model.
//
// Terminology:
//   - Talk: a connection between two hosts, well-behaved ones, from its first packet to the
//     last that anybody sends.
//   - Stage: what one node, load balancer or gateway remembers of a talk. A talk has from
//     none to three, in the order in which the client's packets meet them.
//   - World: a cluster and its model, and the hosts around both.
//
// The model is lists that every question walks from end to end. It knows from the
// table of package overlay where a packet goes by who has begun, what each stage does to
// it, and by the timers of each stage when it is forgotten. What chance or an unpublished order
// decides, such as a port or an endpoint, it takes over from the cluster once that is
// permitted. Two things it takes as given, which have twins of their own: the state machine of
// TCP (package flow), and which healthy node a load balancer chooses (package lb).
package life
