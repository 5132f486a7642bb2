package probe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

const up, down, gone = snat.TargetUp, snat.TargetDown, snat.TargetGone

// Members whose probes decide.
var (
	healthy = probe.Member{Healthy: true}
	sick    = probe.Member{}
)

func checkStates(t *testing.T, basic bool, p *probe.Probe, members []probe.Member, want ...snat.TargetState) {
	t.Helper()
	assert.Equal(t, want, probe.States(nil, basic, p, members))
}

// The rows of the probe document.

func TestAzureProbesAllUp(t *testing.T) {
	for _, basic := range []bool{false, true} {
		checkStates(t, basic, &probe.Probe{}, []probe.Member{healthy, healthy}, up, up)
		checkStates(t, basic, &probe.Probe{}, []probe.Member{healthy}, up)
	}
}

// New flows go to the others, TCP connections stay, UDP flows move: that is TargetDown.
func TestAzureProbesOneDown(t *testing.T) {
	for _, basic := range []bool{false, true} {
		checkStates(t, basic, &probe.Probe{}, []probe.Member{healthy, sick, healthy}, up, down, up)
	}
}

// Example 60: Standard keeps established TCP connections.
func TestAzureProbesAllDownStandard(t *testing.T) {
	checkStates(t, false, &probe.Probe{}, []probe.Member{sick, sick}, down, down)
}

// Example 60: Basic ends them.
func TestAzureProbesAllDownBasic(t *testing.T) {
	checkStates(t, true, &probe.Probe{}, []probe.Member{sick, sick}, gone, gone)
}

func TestAzureProbesDownInAPoolOfOne(t *testing.T) {
	checkStates(t, false, &probe.Probe{}, []probe.Member{sick}, gone)
	checkStates(t, true, &probe.Probe{}, []probe.Member{sick}, gone)
}

func TestAzureProbesAllProbedUp(t *testing.T) {
	p := &probe.Probe{NoHealthyBackendsBehavior: probe.AllProbedUp}
	for _, basic := range []bool{false, true} {
		checkStates(t, basic, p, []probe.Member{sick, sick}, up, up)
		checkStates(t, basic, p, []probe.Member{sick}, up)
		checkStates(t, basic, p, []probe.Member{healthy, sick}, up, down)
	}
}

func TestAzureProbesNone(t *testing.T) {
	for _, basic := range []bool{false, true} {
		checkStates(t, basic, nil, []probe.Member{sick, {Admin: probe.AdminDown}, {Admin: probe.AdminUp}}, up, up, up)
	}
}

func TestAzureAdminUp(t *testing.T) {
	forced := probe.Member{Admin: probe.AdminUp}
	checkStates(t, false, &probe.Probe{}, []probe.Member{forced, healthy}, up, up)
	checkStates(t, true, &probe.Probe{}, []probe.Member{forced, sick}, up, down)
	checkStates(t, true, &probe.Probe{}, []probe.Member{forced}, up)
}

func TestAzureAdminDown(t *testing.T) {
	out := probe.Member{Admin: probe.AdminDown, Healthy: true}
	checkStates(t, false, &probe.Probe{}, []probe.Member{out, healthy}, down, up)
	checkStates(t, false, &probe.Probe{}, []probe.Member{out}, down)
	checkStates(t, true, &probe.Probe{}, []probe.Member{out, sick}, down, gone)
	checkStates(t, false, &probe.Probe{}, []probe.Member{out, sick}, down, down)
	checkStates(t, false, &probe.Probe{NoHealthyBackendsBehavior: probe.AllProbedUp}, []probe.Member{out, sick}, down, up)
}

func TestAzureAdminNone(t *testing.T) {
	checkStates(t, false, &probe.Probe{}, []probe.Member{{Admin: probe.AdminNone, Healthy: true}, {Admin: probe.AdminNone}}, up, down)
}

func TestStatesOfNoMembers(t *testing.T) {
	assert.Equal(t, []snat.TargetState{gone}, probe.States([]snat.TargetState{gone}, true, &probe.Probe{}, nil))
}

func TestStatesDoesNotAllocate(t *testing.T) {
	members, states := make([]probe.Member, 1000), make([]snat.TargetState, 0, 1000)
	p := &probe.Probe{}
	assert.Zero(t, testing.AllocsPerRun(10, func() { states = probe.States(states[:0], true, p, members) }))
}
