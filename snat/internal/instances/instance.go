// Package instances has what a translator remembers of each instance: what it has of ports, and
// what it does without them. It refuses to know packets, and which instances there are.
package instances

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Instance is the state of one instance. It lives in one shard, whose lock guards what is not
// immutable of it, except for counts that need no lock.
type Instance struct {
	ports.Instance

	Deltas [2]wire.Delta // of checksums, own to public address, by family

	Direct *counters.Direct // kept when the instance is configured anew
	Alarms *counters.Alarms // likewise
}

// New returns the state of an instance without ports. old is what it is until now, or nil.
func New(c *compiled.Instance, index uint32, shard int, old *Instance) *Instance {
	inst := &Instance{}
	inst.Index, inst.Shard, inst.Realm, inst.Name, inst.Masquerades = index, shard, c.Realm, c.Name, len(c.Inside) > 0
	if old != nil {
		inst.Direct, inst.Alarms = old.Direct, old.Alarms
	} else {
		inst.Direct, inst.Alarms = new(counters.Direct), new(counters.Alarms)
	}
	for _, a := range c.Addrs {
		if a.Is4() {
			inst.Addr4 = flow.Addr4(a)
		} else {
			inst.Addr6 = flow.Addr6(a)
		}
	}
	for _, a := range c.PublicAddrs {
		inst.publish(a)
	}
	if c.Deterministic != nil {
		inst.Fix(c.Deterministic)
	}
	return inst
}

// publish gives an instance, which has its own addresses already, a public address.
func (inst *Instance) publish(a netip.Addr) {
	public, delta := &inst.Public[flow.Family(a)], &inst.Deltas[flow.Family(a)]
	if a.Is4() {
		public[0] = uint64(flow.Addr4(a))
		*delta = wire.Delta32(inst.Addr4, uint32(public[0]))
	} else {
		*public = flow.Addr6(a)
		*delta = wire.DeltaWords6(inst.Addr6, *public)
	}
}

// Bypass counts a packet that needs no lock and passes as it is.
func (inst *Instance) Bypass(from flow.Side) flow.Verdict {
	inst.Direct.Bypassed[from].Add(1)
	return flow.Verdict{Action: flow.Bypass, To: from ^ 1, Instance: inst.Index}
}

// Fork returns a copy. The lock of its shard must be held.
func (inst *Instance) Fork() *Instance {
	to := &Instance{Deltas: inst.Deltas, Direct: new(counters.Direct), Alarms: new(counters.Alarms)}
	inst.Instance.ForkTo(&to.Instance)
	inst.Direct.ForkTo(to.Direct)
	inst.Alarms.ForkTo(to.Alarms)
	return to
}
