package probe

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/snat"
)

// AdminState overrides the probe for one backend of a pool (administrative state
// document). It counts for rules that have a probe.
type AdminState uint8

// The states.
const (
	AdminNone AdminState = iota // the probe decides
	AdminUp                     // new flows whatever the probe says
	AdminDown                   // no new flows; TCP connections stay, UDP flows move
	numAdminStates
)

var adminNames = [...]string{"None", "Up", "Down"}

var _ = [1]struct{}{}[len(adminNames)-int(numAdminStates)] // one name per state

// String returns Azure's name: "None", "Up" or "Down".
func (a AdminState) String() string { return enum.Name(a, adminNames[:]) }

// Member is a backend as a rule sees it: one of the rule's pool, of the family of its
// frontend.
type Member struct {
	Admin   AdminState // the override in force
	Healthy bool       // what the rule's probe has found
}

// States appends to states what each member gets of a rule, in their order, and returns
// the extended slice. basic says of which SKU the load balancer is, p is the rule's probe,
// nil if it has none. It is the table of the probe document:
//
//	probes                 new flows      TCP connections   UDP flows             state
//	member up              yes            stay              stay                  TargetUp
//	member down            to those up    stay              move to those up      TargetDown
//	all down, Standard     none           stay              end                   TargetDown
//	the same, one member   none           end               end                   TargetGone
//	all down, Basic        none           end               end                   TargetGone
//	all down, AllProbedUp  yes            stay              stay                  TargetUp
//
// A rule without probe has all members up; then Admin means nothing. Where Azure says
// nothing: all are down if no member would get new flows, those with AdminDown included,
// which neither AllProbedUp nor SKU affects: their state is TargetDown in any case.
// Outbound flows do not depend on any of this. Cost: O(members).
func States(states []snat.TargetState, basic bool, p *Probe, members []Member) []snat.TargetState {
	down := snat.TargetDown
	switch {
	case p == nil || slices.ContainsFunc(members, Member.up):
	case p.NoHealthyBackendsBehavior == AllProbedUp:
		down = snat.TargetUp
	case basic || len(members) == 1:
		down = snat.TargetGone
	}
	for _, m := range members {
		switch {
		case p == nil || m.up():
			states = append(states, snat.TargetUp)
		case m.Admin == AdminDown:
			states = append(states, snat.TargetDown)
		default:
			states = append(states, down)
		}
	}
	return states
}

// up reports whether m gets new flows of a rule with a probe.
func (m Member) up() bool { return m.Admin == AdminUp || m.Admin == AdminNone && m.Healthy }
