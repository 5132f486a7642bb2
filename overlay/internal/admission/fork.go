package admission

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// With returns rules like r where others are asked: who was nobody stays so. What never changes is shared.
func (r *Rules) With(policy func(snat.NewFlow) bool, admit, machine func(snat.NewFlow) flow.Reason, exit func(node string) flow.Reason) *Rules {
	to := *r
	to.NetworkPolicy, to.Config.Admit, to.Machine, to.Exit = policy, admit, machine, exit
	return &to
}
