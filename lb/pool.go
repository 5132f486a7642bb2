// Backend address pools: what they are, and what is wrong with them.

package lb

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// BackendAddressPool is a set of backends that rules refer to by name. It has
// at most 5,000 backends. Order counts: earlier members get lower ports, and a
// member appended within an automatic tier changes nothing for those before it.
type BackendAddressPool struct {
	Name     string   // unique, not empty
	Backends []string // names of Config.Backends, without repetition
}

// checkPools checks the backend address pools and indexes their names.
func (r *resolved) checkPools() {
	r.pools = index(r, "BackendAddressPools", r.BackendAddressPools, func(p BackendAddressPool) string { return p.Name })
	for i, p := range r.BackendAddressPools {
		path := fmt.Sprintf("BackendAddressPools[%d].Backends", i)
		problems.AtMost(&r.List, path, len(p.Backends), "elements", maxPoolSize)
		r.checkNames(path, p.Backends, r.backends, "Backends")
	}
}
