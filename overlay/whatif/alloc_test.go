//go:build !race && !natplane_invariants

package whatif_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A step costs no allocation once there is room for what goes on at once.
func TestNoAllocations(t *testing.T) {
	n, hosts := newNAT(t, 1024, snat.Policy{Timeouts: flow.Timeouts{TCPTimeWait: time.Second, TCPClosing: time.Second}})
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, SampleInterval: 24 * time.Hour, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "x", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 200, Even: true},
	}}}})
	s.Advance(time.Hour / 10)
	until := time.Hour / 10
	allocs := testing.AllocsPerRun(10, func() {
		until += 10 * time.Second
		s.Advance(until)
	})
	assert.Less(t, allocs, 20.0, "for 2,000 connections; the map of ports tidies up now and then")
}
