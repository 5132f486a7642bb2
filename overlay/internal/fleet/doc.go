// Package fleet says who the nodes of a cluster are: at first, and again when its configuration changes.
//
// Terminology:
//   - Fleet: the nodes that there are, and what is remembered of those that are gone: which numbers pools
//     have given, and which prefixes static gateways have.
//   - Plan: the fleet that follows another one, by a [Config]. Who stays keeps all it has.
//
// Nothing here changes once it is made, and there are no locks. It refuses to know what a configuration
// says beyond that, flows, and who has which pod.
package fleet
