// Frontend ports that rules use, and what load-balancing and inbound NAT rules have in
// common.

package lb

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// portClaim is a run of frontend ports that a rule uses, in one protocol.
type portClaim struct {
	frontend    int
	protocol    snat.Protocol // TCP or UDP
	first, last uint16
	path        string
}

// checkRule checks what both kinds of rules have, and notes their frontend ports.
func (r *resolved) checkRule(path, frontend string, protocol snat.Protocol, first, last, backendPort uint16, idle time.Duration) {
	r.checkName(path+".FrontendIPConfiguration", frontend, r.frontends, "FrontendIPConfigurations")
	problems.Constant(&r.List, path+".Protocol", protocol, snat.UDP+1)
	r.checkPort(path+".BackendPort", backendPort)
	r.Include(path, CheckIdleTimeout(idle, cmp.Or(r.MaxRuleIdleTimeout, maxRuleIdleTimeout)))
	f, ok := r.frontends[frontend]
	if !ok || first == 0 {
		return
	}
	if r.FrontendIPConfigurations[f].PublicIPPrefix.IsValid() {
		r.Add(path+".FrontendIPConfiguration", frontend, ErrUnsupported, "is a prefix, which serves outbound rules only")
	}
	for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
		if covers(protocol, p) {
			r.rulePorts = append(r.rulePorts, portClaim{f, p, first, last, path})
		}
	}
}

// checkRulePorts finds frontend ports that two rules use.
func (r *resolved) checkRulePorts() {
	slices.SortStableFunc(r.rulePorts, func(a, b portClaim) int {
		return cmp.Or(cmp.Compare(a.frontend, b.frontend), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	reported := map[[2]string]bool{} // a pair of rules for both protocols is one problem
	for i, outer := 1, 0; i < len(r.rulePorts); i++ {
		o, c := r.rulePorts[outer], r.rulePorts[i]
		if o.frontend != c.frontend || o.protocol != c.protocol || o.last < c.first {
			outer = i
			continue
		}
		if pair := [2]string{o.path, c.path}; !reported[pair] {
			reported[pair] = true
			r.Add(c.path+": frontend port", c.first, flow.ErrConflict, "%s uses it on %q too", o.path, r.FrontendIPConfigurations[c.frontend].Name)
		}
		if c.last > o.last {
			outer = i
		}
	}
}

func (r *resolved) checkRulesPerBackend() {
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
	for _, p := range r.BackendAddressPools {
		for _, name := range p.Backends {
			if b, ok := r.backends[name]; ok {
				perBackend[b] += perPool[p.Name]
			}
		}
	}
	for i, n := range perBackend {
		problems.AtMost(&r.List, fmt.Sprintf("Backends[%d]", i), n, "rules", maxRulesPerBackend)
	}
}

func (r *resolved) checkPort(path string, port uint16) {
	if port == 0 {
		r.Add(path, port, flow.ErrOutOfRange, "valid are 1..65535")
	}
}
