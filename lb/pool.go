// Backend address pools: what they are, and what is wrong with them.

package lb

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/problems"
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
}

// checkPools checks the backend address pools and indexes their names.
func (r *resolved) checkPools() {
	r.pools = index(r, "BackendAddressPools", r.BackendAddressPools, func(p BackendAddressPool) string { return p.Name })
	for i, p := range r.BackendAddressPools {
		path := fmt.Sprintf("BackendAddressPools[%d]", i)
		problems.AtMost(&r.List, path+".Backends", len(p.Backends), "elements", r.limits().poolSize)
		r.checkNames(path+".Backends", p.Backends, r.backends, "Backends")
		if p.IPBased && r.SKU == Basic {
			r.Add(path+".IPBased", true, ErrUnsupported, "pools of SKU Basic have network interfaces")
		}
	}
}
