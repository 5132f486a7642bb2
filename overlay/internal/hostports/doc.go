// Package hostports knows which pod has which ports of the nodes: those that its
// specification names, and those that AKS picks for it. Read "Use instance-level public IPs
// in AKS", the section on automatic host ports, first.
//
// Terminology:
//   - Container port: the port that a pod listens at, with its protocol.
//   - Host port: the port of its node that leads there. A host port that the
//     specification names is given once per node and protocol, as the scheduler of
//     Kubernetes does; one that is picked is out of 40000 to 59999, and given once in the
//     cluster, whatever the protocol, which is our choice: the document says "unique".
//   - Binding: one of both kinds, and whose it is.
//
// [Parse] reads the annotation, [Inventory.Assign] picks and [Inventory.Bind] takes a port
// that is named, and [Inventory.Release] gives back all ports of a pod. An Inventory has no
// lock: the caller holds one. It refuses to know nodes and pods but by name, and packets.
package hostports
