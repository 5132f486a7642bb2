// Keeping ports when the configuration of a running load balancer changes. Read
// the outbound connections document's section on scaling a pool first.

package lb

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/internal/grants"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// inForce is what a change of the configuration finds.
type inForce struct {
	now       flow.Time
	balancers []balancerInForce // that of the configuration, then those beside it
	plan      []Allocation
	forwards  []forwarded // of the translator
	health    health.Verdicts
	security  *nsg.Compiled  // nil if there are no groups
	policies  int            // different ones that the translator began with
	shards    int            // so of the translator, since it began
	resting   []restingBlock // some may be over

	known health.Known

	dropsHAPortsFragments bool
	exact                 bool // what comes is the same, so that plan is that of it
}

// balancerInForce is what a change finds of one load balancer.
type balancerInForce struct {
	beside  bool   // it is an internal one of an Egress
	name    string // then unique
	sku     SKU    // of what there is
	exists  bool   // it has frontends
	ports   []PortMapping
	vacated []PortMapping // without backend
}

// balancer returns what there is of a load balancer, or nil.
func (f *inForce) balancer(beside bool, name string) *balancerInForce {
	for i := range f.balancers {
		if b := &f.balancers[i]; b.beside == beside && (!beside || b.name == name) {
			return b
		}
	}
	return nil
}

// restingBlock is a block that a backend has lost, but may have flows on until its
// grace is over or somebody gets it.
type restingBlock struct {
	backend  string
	protocol snat.Protocol // TCP or UDP
	frontend netip.Addr
	block    int
	until    flow.Time
}

// had returns the ports that each backend has until now.
func (r *resolved) had() [][]snat.PortRange {
	all := make([][]snat.PortRange, len(r.Backends))
	for _, a := range r.former.plan {
		if b, ok := r.backends[a.Instance]; ok {
			all[b] = a.Ports
		}
	}
	return all
}

// resting returns the resting blocks of protocol p that the frontends of a family have.
func (r *resolved) resting(p snat.Protocol, inventories map[netip.Addr]*grants.Inventory) []grants.Resting {
	var all []restingBlock
	for _, rest := range r.former.resting {
		_, ok := r.backends[rest.backend]
		if v := inventories[rest.frontend]; ok && rest.protocol == p && rest.until > r.former.now && v != nil && v.Has(rest.block) {
			all = append(all, rest)
		}
	}
	slices.SortFunc(all, func(a, b restingBlock) int {
		return cmp.Or(cmp.Compare(a.until, b.until), a.frontend.Compare(b.frontend), cmp.Compare(a.block, b.block))
	})
	resting := make([]grants.Resting, len(all))
	for i, rest := range all {
		resting[i] = grants.Resting{Owner: r.backends[rest.backend], Frontend: rest.frontend, Block: rest.block}
	}
	return resting
}

// restAfter returns the blocks that rest when a plan replaces what is in force: those
// that a backend loses and neither a backend nor a rule gets, for the grace.
func (r *resolved) restAfter(plan []Allocation) (all []restingBlock) {
	if r.former == nil || r.ReclaimGrace <= 0 {
		return nil
	}
	if r.former.exact {
		return r.former.resting
	}
	type block struct {
		protocol snat.Protocol
		frontend netip.Addr
		block    int
	}
	blocks := func(a Allocation, visit func(block)) {
		for _, rng := range a.Ports {
			for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
				for k := 0; k < rng.Count/snat.BlockSize && covers(rng.Protocol, p); k++ {
					visit(block{p, rng.Frontend, int(rng.First)/snat.BlockSize + k})
				}
			}
		}
	}
	granted := map[block]bool{}
	for _, a := range plan {
		blocks(a, func(b block) { granted[b] = true })
	}
	for _, c := range r.rulePorts {
		for k := int(c.First) / snat.BlockSize; k <= int(c.Last)/snat.BlockSize; k++ {
			granted[block{c.Protocol, r.FrontendIPConfigurations[c.Frontend].addr(), k}] = true
		}
	}
	until := r.former.now.Add(r.ReclaimGrace)
	for _, rest := range r.former.resting {
		if _, exists := r.backends[rest.backend]; exists && rest.until > r.former.now && !granted[block{rest.protocol, rest.frontend, rest.block}] {
			rest.until = min(rest.until, until)
			all = append(all, rest)
		}
	}
	for _, a := range r.former.plan {
		if _, exists := r.backends[a.Instance]; exists {
			blocks(a, func(b block) {
				if !granted[b] {
					all = append(all, restingBlock{a.Instance, b.protocol, b.frontend, b.block, until})
				}
			})
		}
	}
	return all
}
