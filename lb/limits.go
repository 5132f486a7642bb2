// How much of everything a load balancer may have. Read Azure's subscription and service
// limits first.

package lb

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Specification constants.
const (
	maxFrontendAddrs   = 4096 // our choice
	maxOutboundRules   = 600
	maxRulesPerBackend = 300
	maxPoolSize        = 5000 // of Standard
)

// limits are the most of what a load balancer of one SKU may have. 0 is any number: what
// Azure says nothing about.
type limits struct {
	frontends   int // frontend IP configurations
	rules       int // load-balancing and inbound NAT rules
	poolSize    int // backends of a pool
	inPools     int // IP configurations of backends: the addresses of the members of all pools
	perFrontend int // of those, which the rules of one frontend serve, once for each rule
	inRules     int // the same of all rules, outbound rules of several frontends once
}

var limitsBySKU = [...]limits{
	Standard: {frontends: 600, rules: 1500, poolSize: maxPoolSize, inPools: 20_000, perFrontend: 10_000, inRules: 500_000},
	Basic:    {frontends: 200, rules: 250, poolSize: 300},
}

var _ = [1]struct{}{}[len(limitsBySKU)-int(numSKUs)] // the limits of each SKU

// limits returns those of the load balancer.
func (c *Config) limits() limits {
	if c.SKU < numSKUs {
		return limitsBySKU[c.SKU]
	}
	return limitsBySKU[Standard]
}

// checkIPConfigurations finds pools and frontends with too many IP configurations of
// backends. It must come when all names are known.
func (r *resolved) checkIPConfigurations() {
	most := r.limits()
	if most.inPools == 0 {
		return
	}
	inPools, inRules, perFrontend := 0, 0, make([]int, len(r.FrontendIPConfigurations))
	sizes := make([][2]int, len(r.BackendAddressPools)) // by family
	for i := range sizes {
		sizes[i] = [2]int{len(r.members(i, false)), len(r.members(i, true))}
		inPools += sizes[i][0] + sizes[i][1]
	}
	for i := range r.openings {
		o := &r.openings[i]
		perFrontend[o.frontend] += len(r.served(o))
		inRules += len(r.served(o))
	}
	for _, o := range r.OutboundRules {
		pool, known := r.pools[o.BackendAddressPool]
		var has [2]bool // frontends of the family: a rule counts once, however many there are
		for _, name := range o.FrontendIPConfigurations {
			if f, ok := r.frontends[name]; ok && known {
				family := 0
				if r.FrontendIPConfigurations[f].is6() {
					family = 1
				}
				perFrontend[f] += sizes[pool][family]
				has[family] = true
			}
		}
		for family, of := range has {
			if of {
				inRules += sizes[pool][family]
			}
		}
	}
	problems.AtMost(&r.List, "BackendAddressPools", inPools, "IP configurations of backends", most.inPools)
	for i, n := range perFrontend {
		problems.AtMost(&r.List, problems.Index("FrontendIPConfigurations", i), n, "IP configurations of backends in its rules", most.perFrontend)
	}
	problems.AtMost(&r.List, "FrontendIPConfigurations", inRules, "IP configurations of backends in their rules", most.inRules)
}

// checkRulesPerBackend finds backends with too many rules.
func (r *resolved) checkRulesPerBackend() {
	for i, n := range r.rulesPerBackend() {
		if n > maxRulesPerBackend {
			problems.AtMost(&r.List, fmt.Sprintf("Backends[%d]", i), n, "rules", maxRulesPerBackend)
		}
	}
}

// rulesPerBackend returns how many rules of all kinds serve each backend.
func (r *resolved) rulesPerBackend() []int {
	perPool, perBackend := map[string]int{}, make([]int, len(r.Backends))
	for _, l := range r.LoadBalancingRules {
		perPool[l.BackendAddressPool]++
	}
	for _, n := range r.InboundNATRules {
		if n.BackendAddressPool != "" {
			perPool[n.BackendAddressPool]++
		} else if b, ok := r.backends[n.Backend]; ok {
			perBackend[b]++
		}
	}
	for _, o := range r.OutboundRules {
		perPool[o.BackendAddressPool]++
	}
	for _, p := range r.BackendAddressPools {
		for _, name := range p.Backends {
			if b, ok := r.backends[name]; ok {
				perBackend[b] += perPool[p.Name]
			}
		}
	}
	return perBackend
}
