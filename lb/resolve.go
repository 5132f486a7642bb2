// Validation: every range, reference and conflict of a Config, all in one error.
// Capacity is checked by the planner, which knows who asks for how much.

package lb

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/claims"
	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// isInternal reports whether c is an internal load balancer.
func (c *Config) isInternal() bool {
	return slices.ContainsFunc(c.FrontendIPConfigurations, FrontendIPConfiguration.isInternal)
}

// resolved is a Config whose names are looked up.
type resolved struct {
	*Config
	problems.List

	internal                   bool
	security                   *nsg.Compiled        // nil if there are no groups
	probes                     map[string]int       // name to index
	frontends, backends, pools map[string]int       // name to index
	rulePorts                  []claims.Claim       // of load-balancing and inbound NAT rules, sorted
	openings                   []opening            // of these rules, as far as their names are known
	membersOf                  map[poolFamily][]int // what served has looked up
	outboundFrontends          map[int]int          // frontend index to the first outbound rule that uses it
	kinds                      members              // after indexMembers
	counted                    bool                 // the planner only sees whether there are ports for all
	owner                      *resolved            // of an internal one of an Egress: that whose backends it has
	beside                     []*resolved          // those whose owner this is
	former                     *inForce             // if the planner is to keep ports
	was                        *balancerInForce     // of former: this load balancer, if it was there
	warnings                   []string             // of the planner
	endings                    [][2]*ending         // of backends, for TCP and UDP, as the planner finds them
}

// resolve validates c, except for capacity, and looks all names up. The result is
// usable only without error.
func (c *Config) resolve() (*resolved, error) {
	r := c.lookUp(nil)
	r.security = checkSecurity(&r.List, c.NetworkSecurity, &c.Dataplane)
	r.checkWithoutGroup(r.NetworkSecurity, "", &r.List)
	if mode := r.Fragments.Mode; r.DropHAPortsFragments && mode != snat.FragmentsDropped {
		r.Add("DropHAPortsFragments", true, flow.ErrConflict, "Fragments.Mode %v carries them", mode)
	}
	return r, r.Err()
}

// lookUp is resolve without network security. owner, unless nil, has the backends, and what
// is wrong with them, and what is said for all load balancers.
func (c *Config) lookUp(owner *resolved) *resolved {
	r := &resolved{
		Config: c, owner: owner, internal: owner != nil || c.isInternal(),
		outboundFrontends: map[int]int{}, membersOf: map[poolFamily][]int{},
	}
	problems.Constant(&r.List, "SKU", r.SKU, numSKUs)
	r.checkFrontends()
	if owner != nil {
		r.backends = owner.backends
	} else {
		r.checkChoices()
		r.checkBackends()
		owners.Check(&r.List, r.owned(""))
	}
	r.checkPools()
	r.checkProbes()
	r.checkOutboundRules()
	r.checkLoadBalancingRules()
	r.checkInboundNATRules()
	r.checkRulePorts()
	r.checkNATRanges()
	r.checkIPConfigurations()
	r.checkRulesPerBackend()
	r.checkBackendPorts()
	return r
}

func (r *resolved) checkChoices() {
	problems.Constant(&r.List, "FrontendMode", r.FrontendMode, numFrontendModes)
	problems.Constant(&r.List, "Layout", r.Layout, numLayouts)
	problems.Constant(&r.List, "BasicFrontend", r.BasicFrontend, numBasicFrontends)
	r.Include("", checkMinutes("MaxOutboundIdleTimeout", r.MaxOutboundIdleTimeout, maxOutboundIdleTimeout))
	r.Include("", checkMinutes("MaxRuleIdleTimeout", r.MaxRuleIdleTimeout, maxRuleIdleTimeoutNew))
	r.Include("Timeouts", snat.Owned{}.ValidateTimeouts(r.Timeouts))
	r.Include("", snat.Owned{TCP: r.TCP, UDP: r.UDP}.Validate())
	r.Include("", r.Dataplane.Validate())
	r.Include("", snat.Config{Routes: r.Routes}.Validate())
}

func (r *resolved) checkAddr(path string, a netip.Addr) {
	switch {
	case !a.IsValid():
		r.Add(path, a, flow.ErrAddress, "want an address")
	case !flow.IsHost(a):
		r.Add(path, a, flow.ErrAddress, "want the address of a host, not link-local, IPv4-mapped or with a zone")
	}
}

func (r *resolved) checkName(path, name string, known map[string]int, where string) {
	if _, ok := known[name]; name == "" {
		r.Add(path, name, flow.ErrMissing, "name one of %s", where)
	} else if !ok {
		r.Add(path, name, flow.ErrUnknownName, "not among %s", where)
	}
}

// checkNames checks a list of references, which must not repeat.
func (r *resolved) checkNames(path string, names []string, known map[string]int, where string) {
	seen := make(map[string]int, len(names))
	for i, name := range names {
		if _, ok := known[name]; name == "" || !ok {
			r.checkName(problems.Index(path, i), name, known, where)
		}
		if first, dup := seen[name]; dup {
			r.Add(problems.Index(path, i), name, flow.ErrDuplicateName, "already at [%d]", first)
		} else {
			seen[name] = i
		}
	}
}

// index maps names to positions; a name must be there and be unique.
func index[T any](r *resolved, path string, items []T, name func(T) string) map[string]int {
	at := make(map[string]int, len(items))
	for i, item := range items {
		n := name(item)
		if first, dup := at[n]; n == "" {
			r.Add(fmt.Sprintf("%s[%d].Name", path, i), n, flow.ErrMissing, "every resource needs a name")
		} else if dup {
			r.Add(fmt.Sprintf("%s[%d].Name", path, i), n, flow.ErrDuplicateName, "already %s[%d]", path, first)
		} else {
			at[n] = i
		}
	}
	return at
}
