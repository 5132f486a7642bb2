// Backend address pools: what they are, and what is wrong with them.

package lb

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// BackendAddressPool is a set of backends that rules refer to by name. It has
// at most 5,000 backends, on Basic 300. Order counts: earlier members get lower ports,
// and a member appended within an automatic tier changes nothing for those before it.
type BackendAddressPool struct {
	Name     string   // unique, not empty
	Backends []string // names of Config.Backends, without repetition

	// IPBased says that the pool lists addresses and not network interfaces. Standard
	// only. For outbound flows such a pool is as on Basic: outbound rules give it
	// nothing, load-balancing rules lend it a frontend, and its members keep default
	// outbound access (outbound rules document).
	IPBased bool

	// AdminStates override what probes say of some of Backends, for the rules that have
	// a probe. Those that are not listed have probe.AdminNone.
	AdminStates []BackendAdminState
}

// BackendAdminState is the administrative state of one backend of a pool.
type BackendAdminState struct {
	Backend string           // name of a member; at most once
	State   probe.AdminState // zero is probe.AdminNone, as if it were not listed
}

// adminStates returns the administrative states of members, by name.
func (p *BackendAddressPool) adminStates() map[string]probe.AdminState {
	all := make(map[string]probe.AdminState, len(p.AdminStates))
	for _, s := range p.AdminStates {
		all[s.Backend] = s.State
	}
	return all
}

// checkPools checks the backend address pools and indexes their names.
func (r *resolved) checkPools() {
	r.pools = index(r, "BackendAddressPools", r.BackendAddressPools, func(p BackendAddressPool) string { return p.Name })
	for i, p := range r.BackendAddressPools {
		path := fmt.Sprintf("BackendAddressPools[%d]", i)
		problems.AtMost(&r.List, path+".Backends", len(p.Backends), "elements", r.limits().poolSize)
		r.checkNames(path+".Backends", p.Backends, r.backends, "Backends")
		r.checkAdminStates(path+".AdminStates", p)
		if p.IPBased && r.SKU == Basic {
			r.Add(path+".IPBased", true, ErrUnsupported, "pools of SKU Basic have network interfaces")
		}
	}
}

// checkAdminStates checks those of a pool, which are at path.
func (r *resolved) checkAdminStates(path string, p BackendAddressPool) {
	members := map[string]int{}
	for i, name := range p.Backends {
		members[name] = i
	}
	seen := map[string]int{}
	for i, s := range p.AdminStates {
		at := problems.Index(path, i)
		r.checkName(at+".Backend", s.Backend, members, "the pool's Backends")
		if first, dup := seen[s.Backend]; dup {
			r.Add(at+".Backend", s.Backend, flow.ErrDuplicateName, "already at [%d]", first)
		} else {
			seen[s.Backend] = i
		}
		problems.Constant(&r.List, at+".State", s.State, probe.AdminDown+1)
	}
}
