// Package probe models the health probes of Azure load balancers in virtual time: what
// a probe may be, when it is sent to whom, when its answers make a backend healthy or
// not, and what becomes of the flows of a rule then.
//
// Terminology, used exactly so in names and comments:
//   - Probe: a check that is repeated, with Azure's fields: protocol, port, interval,
//     thresholds, path.
//   - Backend: one address of a virtual machine or node. A machine with an IPv4 and an
//     IPv6 address is two backends: a rule of a family asks the address of that family.
//   - Watch: a probe and the backends that it is sent to, those of a pool.
//   - Attempt: one probe that was sent to one backend, with one [Result].
//   - Healthy: what a probe has found of a backend, after its thresholds.
//   - Prober: who answers attempts. A simulator decides there what its machines do; a
//     real one opens connections.
//   - State: what flows a backend gets of one rule; see [States].
//
// # Time
//
// An attempt is made at multiples of the interval, plus an offset that depends on the
// names of probe and backend alone: their XXH64 modulo the interval in milliseconds. So
// the probes of many backends do not come at once, neither the start nor a
// reconfiguration changes when one comes, and the same configuration gives the same
// times. Azure does not publish its own; this is our choice. An attempt is decided at the
// moment at which it is made, because the answers of a prober take no time: also an answer
// that does not come, which in Azure is known after the interval (TCP) or 30 seconds
// (HTTP, HTTPS; probe document).
//
// A backend that is new is not healthy before its first success, and one is enough (2018
// edition of the probe document); [Config.AssumeHealthy] begins the other way. After that
// it takes as many failures or successes in a row as the probe says.
//
// # What it refuses to know
//
// It knows nothing of load-balancing rules but what [States] is told, and nothing of the
// translator. It reads no clock, opens no sockets and starts no goroutines.
package probe
