package probe_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// Two machines, of which one stops answering for a while.
func ExampleMonitor() {
	vms := []probe.Backend{{Name: "vm0", Addr: netip.MustParseAddr("10.1.0.4")}, {Name: "vm1", Addr: netip.MustParseAddr("10.1.0.5")}}
	web := probe.Probe{Name: "web", Port: 80, Interval: 5 * time.Second, ProbeThreshold: 2}
	m, err := probe.NewMonitor(probe.Config{
		Probes:  []probe.Probe{web},
		Watches: []probe.Watch{{Probe: "web", Backends: vms}},
	}, probe.ProberFunc(func(at flow.Time, b probe.Backend, _ *probe.Probe) probe.Result {
		if b.Name == "vm1" && at > flow.At(time.Minute) && at < flow.At(2*time.Minute) {
			return probe.Failure
		}
		return probe.Success
	}))
	if err != nil {
		panic(err)
	}
	m.Advance(0, nil) // begins
	m.Advance(flow.At(3*time.Minute), func(c probe.Change) {
		fmt.Println(c.At, c.Backend.Name, "healthy:", c.Healthy)
	})
	// Output:
	// 1.888s vm1 healthy: true
	// 2.832s vm0 healthy: true
	// 1m6.888s vm1 healthy: false
	// 2m6.888s vm1 healthy: true
}

// What a rule's flows get while the one machine is healthy and the other is not.
func ExampleStates() {
	members := []probe.Member{{Healthy: true}, {Healthy: false}}
	fmt.Println(probe.States(nil, false, &probe.Probe{}, members))
	// Output: [TargetUp TargetDown]
}
