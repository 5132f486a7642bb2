// Network security groups: which of them a flow of a backend meets.

package lb

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// SecurityGroups returns what [snat.Dataplane].Admit has to be for network security groups
// to decide about the flows of backends, those of the Config with the same Dataplane. The
// groups asked are those of the backend's own address, also where a flow is for a pod behind
// it or, by floating IP, for a frontend. A change of groups is a Reconfigure with another
// Admit; flows that have begun go on.
func SecurityGroups(groups *nsg.Compiled, backends []Backend) func(snat.NewFlow) flow.Reason {
	own := ownAddrsOf(backends)
	return func(f snat.NewFlow) flow.Reason {
		direction := nsg.Outbound
		if f.From == flow.Outside {
			direction = nsg.Inbound
		}
		return groups.Admit(direction, f.Protocol, f.Inside, f.Remote, own.of(f.Name, f.Inside.Addr().Is6()))
	}
}
