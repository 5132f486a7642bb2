// Openings: what load-balancing and inbound NAT rules have in common, the frontend
// ports that they open and the ports of backends that they lead to.

package lb

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/claims"
	"github.com/seed-a61be3fe/natplane/snat"
)

// lastPort is the last port there is.
const lastPort = 65535

// opening is a load-balancing or inbound NAT rule, as far as both are alike.
type opening struct {
	path        string
	frontend    int // its configuration
	protocol    snat.Protocol
	first, last uint16 // frontend ports; all of them with haPorts
	backendPort uint16
	floating    bool
	haPorts     bool
	idle        time.Duration // 0 is the default
	reset       bool

	rule         int // index of the load-balancing rule, -1 if it is none
	distribution snat.Distribution
	natRule      string // name of the inbound NAT rule, "" if it is none: each backend has one port
	target       target
}

// ports returns the number of frontend ports.
func (o *opening) ports() int { return int(o.last) - int(o.first) + 1 }

// target names whom a rule serves: all members of a pool, or one backend.
type target struct{ pool, backend string }

// checkOpening checks what both kinds of rules have, and notes the opening and its
// frontend ports.
func (r *resolved) checkOpening(o opening, frontend string) {
	path := o.path
	r.checkName(path+".FrontendIPConfiguration", frontend, r.frontends, "FrontendIPConfigurations")
	problems.Constant(&r.List, path+".Protocol", o.protocol, snat.UDP+1)
	if !o.haPorts {
		r.checkPort(path+".BackendPort", o.backendPort)
	}
	r.Include(path, CheckIdleTimeout(o.idle, cmp.Or(r.MaxRuleIdleTimeout, maxRuleIdleTimeout)))
	if o.reset && r.SKU == Basic {
		r.Add(path+".EnableTCPReset", true, ErrUnsupported, "SKU Basic sends no resets")
	}
	if o.floating && o.first == o.last && o.backendPort != o.first {
		r.Add(path+".BackendPort", o.backendPort, flow.ErrConflict, "must be FrontendPort %d with EnableFloatingIP", o.first)
	}
	f, ok := r.frontends[frontend]
	if !ok || o.first == 0 && !o.haPorts {
		return
	}
	if r.FrontendIPConfigurations[f].PublicIPPrefix.IsValid() {
		r.Add(path+".FrontendIPConfiguration", frontend, ErrUnsupported, "is a prefix, which serves outbound rules only")
	}
	o.frontend = f
	for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
		if covers(o.protocol, p) {
			r.rulePorts = append(r.rulePorts, claims.Claim{Frontend: f, Protocol: p, First: o.first, Last: o.last, Path: path, Floating: o.floating, HAPorts: o.haPorts})
		}
	}
	_, known := r.pools[o.target.pool]
	if o.target.pool == "" {
		_, known = r.backends[o.target.backend]
	}
	if known {
		r.openings = append(r.openings, o)
	}
}

// is6 reports whether an opening is for IPv6.
func (r *resolved) is6(o *opening) bool { return r.FrontendIPConfigurations[o.frontend].is6() }

// poolFamily are the members of a pool that have an address of a family.
type poolFamily struct {
	pool int
	is6  bool
}

// served returns the backends that an opening leads to: those with an address of the
// frontend's family, in pool order. The caller must not change the result.
func (r *resolved) served(o *opening) []int {
	is6 := r.is6(o)
	if o.target.pool == "" {
		if b := r.backends[o.target.backend]; r.Backends[b].hasFamily(is6) {
			return []int{b}
		}
		return nil
	}
	k := poolFamily{r.pools[o.target.pool], is6}
	members, ok := r.membersOf[k]
	if !ok {
		members = r.members(k.pool, is6)
		r.membersOf[k] = members
	}
	return members
}

// checkRulePorts finds frontend ports that two rules use, unless both float and one of them
// has HA ports.
func (r *resolved) checkRulePorts() {
	claims.Sort(r.rulePorts)
	claims.Conflicts(r.rulePorts, func(c, o *claims.Claim) {
		r.Add(c.Path+": frontend port", c.First, flow.ErrConflict, "%s uses it on %q too", o.Path, r.FrontendIPConfigurations[c.Frontend].Name)
	})
}

// checkBackendPorts finds ports of backends that two rules lead to, although one of
// them rewrites the destination, and rules beside HA ports. It finds at most one such
// problem of each rule and protocol. It must come when all names are known.
func (r *resolved) checkBackendPorts() {
	type socket struct {
		is6      bool
		protocol snat.Protocol
		port     uint16
	}
	served := make([][]int, len(r.openings))
	by := map[socket][]int{}
	ha := false
	for i := range r.openings {
		o := &r.openings[i]
		served[i] = r.served(o)
		ha = ha || o.haPorts
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			if covers(o.protocol, p) && !o.floating && !o.haPorts {
				k := socket{r.is6(o), p, o.backendPort}
				by[k] = append(by[k], i)
			}
		}
	}
	first := make([]int, len(r.Backends)) // opening that has used the backend, and 1
	clash := func(all []int, complain func(a, b *opening, backend string)) {
		for _, i := range all {
			for _, b := range served[i] {
				if was := first[b] - 1; was >= 0 && was != i {
					complain(&r.openings[was], &r.openings[i], r.Backends[b].Name)
					break
				}
				first[b] = i + 1
			}
		}
		clear(first)
	}
	for i := range r.openings {
		o := &r.openings[i]
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			if k := (socket{r.is6(o), p, o.backendPort}); len(by[k]) > 1 && by[k][0] == i {
				clash(by[k], func(a, b *opening, backend string) {
					r.Add(b.path+".BackendPort", b.backendPort, flow.ErrConflict,
						"RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig: %s uses it on backend %q too; with EnableFloatingIP both may", a.path, backend)
				})
			}
		}
	}
	if ha {
		r.checkHAPorts(served)
	}
}

// checkHAPorts finds backends that have other rules beside HA ports. served are the
// backends of all openings.
func (r *resolved) checkHAPorts(served [][]int) {
	for _, is6 := range []bool{false, true} {
		has := make([]*opening, len(r.Backends)) // the first one with HA ports
		for i := range r.openings {
			for _, b := range served[i] {
				if o := &r.openings[i]; o.haPorts && r.is6(o) == is6 && (has[b] == nil || has[b].floating) {
					has[b] = o
				}
			}
		}
		for i := range r.openings {
			o := &r.openings[i]
			for _, b := range served[i] {
				if h := has[b]; r.is6(o) == is6 && h != nil && h != o && !(h.floating && o.floating) {
					r.Add(o.path+": backend", r.Backends[b].Name, flow.ErrConflict, "%s has HA ports on it, beside which there may be other rules only if all have EnableFloatingIP", h.path)
					break
				}
			}
		}
	}
}

func (r *resolved) checkPort(path string, port uint16) {
	if port == 0 {
		r.Add(path, port, flow.ErrOutOfRange, "valid are 1..65535")
	}
}
