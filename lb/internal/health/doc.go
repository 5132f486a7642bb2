// Package health keeps the targets of a running translator as probes and administrative states
// say.
//
// Terminology, beside that of package probe:
//   - Rule: a forward of the translator whose targets follow a probe.
//   - Balancer: a load balancer, by what its probes are known by; they all have one translator.
//   - Keeper: who runs the monitors of all balancers, and sets the states of targets.
//
// What a configuration says are [Verdicts]; a keeper adopts them, and with them what its monitors
// have found of whom they watch already. The Keeper's lock is taken before any of the translator.
//
// It refuses to know which resources rules come from, and what their metrics are called.
package health
