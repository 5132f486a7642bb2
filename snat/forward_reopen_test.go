package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A SYN that follows upon a closed connection goes to a target that is up. Without one the
// closed connection stays as it is, and so it does if its target is up.
func TestForwardReopened(t *testing.T) {
	for _, f := range realms {
		for _, end := range []string{"FA", "R"} {
			b := newBed(t, backends(2))
			client, front := socket(f.s, 5000), socket(f.f, 80)
			was := destination(b.remotely(client, front, "S", 1000, 0))
			b.locally(was, client, "SA", 9000, 1001)
			b.remotely(client, front, "A", 1001, 9001)
			b.remotely(client, front, end, 1001, 9001)
			if end == "FA" {
				b.locally(was, client, "FA", 9001, 1002)
				b.remotely(client, front, "A", 1002, 9002)
			}
			set := func(first, second snat.TargetState) {
				forward := 0
				if f.is6() {
					forward = 1
				}
				require.NoError(t, b.SetTargets(b.now, snat.TargetChange{Forward: forward, State: first}, snat.TargetChange{Forward: forward, Target: 1, State: second}))
			}
			set(snat.TargetDown, snat.TargetDown)
			assert.Equal(t, "drop no_target", b.remotely(client, front, "S", 700000, 0))
			assert.Equal(t, was, destination(b.remotely(client, front, "A", 1002, 9002)), "of the old one")
			assert.Zero(t, b.Stats().Cut[snat.CutTarget])
			first, second := snat.TargetDown, snat.TargetUp
			if was == socket(backend(1, f.is6()), 8080) {
				first, second = second, first
			}
			set(first, second)
			next := destination(b.remotely(client, front, "S", 700000, 0))
			assert.NotEqual(t, was, next)
			assert.Equal(t, front, source(b.locally(next, client, "SA", 9000, 700001)))
			assert.EqualValues(t, 1, b.Stats().Cut[snat.CutTarget])
			assert.EqualValues(t, 1, b.Stats().SessionsActive)
			b.Check()
		}
	}
}

// A SYN that is refused, by Dataplane.Admit or for want of a target, leaves the memory of
// the connection that was reset.
func TestForwardResetRefused(t *testing.T) {
	c := backends(1)
	c.Policy.EnableTCPReset = true
	refuses := false
	c.Admit = func(snat.NewFlow) flow.Reason {
		if refuses {
			return flow.ReasonNSGInbound
		}
		return flow.ReasonNone
	}
	b := newBed(t, c)
	client, front, vm := socket(serverA, 5000), socket(frontend, 80), socket(backend(0, false), 8080)
	b.remotely(client, front, "S", 100, 0)
	b.locally(vm, client, "SA", 200, 101)
	b.remotely(client, front, "A", 101, 201)
	b.at(4*time.Minute + time.Second)
	assert.Len(t, b.sent(), 2)
	refuses = true
	assert.Equal(t, "drop nsg_inbound", b.remotely(client, front, "S", 9100, 0))
	assert.Equal(t, "drop flow_reset", b.remotely(client, front, "A", 101, 201))
	refuses = false
	require.NoError(t, b.SetTargets(b.now, snat.TargetChange{State: snat.TargetDown}))
	assert.Equal(t, "drop no_target", b.remotely(client, front, "S", 9100, 0))
	assert.Equal(t, "drop flow_reset", b.locally(vm, client, "A", 201, 101))
	require.NoError(t, b.SetTargets(b.now, snat.TargetChange{State: snat.TargetUp}))
	assert.Equal(t, vm, destination(b.remotely(client, front, "S", 9100, 0)))
	assert.Zero(t, b.Stats().Cut[snat.CutTarget])
	b.Check()
}
