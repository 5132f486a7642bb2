// The frontend ports of inbound NAT rules: who has which, and keeps it.

package lb

import (
	"maps"
	"slices"
)

// PortMapping is a frontend port that an inbound NAT rule leads to a backend.
type PortMapping struct {
	InboundNATRule string // its name
	Backend        string // its name
	FrontendPort   uint16 // of the rule's frontend
}

// PortMappings returns the frontend port of each backend that an inbound NAT rule
// serves, rule by rule, in pool order. It is a pure function; of a running load balancer
// see [LoadBalancer.PortMappings]. The errors are those of Validate.
func (c Config) PortMappings() ([]PortMapping, error) {
	f, _, err := c.compile(nil)
	if err != nil {
		return nil, err
	}
	return f.balancers[0].ports, nil
}

// mapPorts returns who has which frontend port: whoever has one keeps it, as long as it
// is in the pool and the port in the range, and the others get the lowest that are free.
// vacated are the ports that somebody has had and nobody has now, which may have flows
// still.
func (r *resolved) mapPorts() (all, vacated []PortMapping) {
	type key struct{ rule, backend string }
	had, used := map[key]uint16{}, map[string]map[uint16]bool{}
	if r.was != nil {
		for _, m := range slices.Concat(r.was.ports, r.was.vacated) {
			had[key{m.InboundNATRule, m.Backend}] = m.FrontendPort
			if used[m.InboundNATRule] == nil {
				used[m.InboundNATRule] = map[uint16]bool{}
			}
			used[m.InboundNATRule][m.FrontendPort] = true
		}
	}
	for i := range r.openings {
		o := &r.openings[i]
		if o.natRule == "" {
			continue
		}
		members, taken := r.served(o), map[uint16]bool{}
		keeps := func(b int) (port uint16, ok bool) {
			port, ok = had[key{o.natRule, r.Backends[b].Name}]
			return port, ok && o.first <= port && port <= o.last
		}
		for _, b := range members {
			if port, ok := keeps(b); ok {
				taken[port] = true
			}
		}
		next := int(o.first)
		for _, b := range members {
			port, ok := keeps(b)
			if !ok {
				for taken[uint16(next)] {
					next++
				}
				port = uint16(next)
				next++
			}
			all = append(all, PortMapping{o.natRule, r.Backends[b].Name, port})
			delete(used[o.natRule], port)
		}
		for _, port := range slices.Sorted(maps.Keys(used[o.natRule])) {
			if o.first <= port && port <= o.last {
				vacated = append(vacated, PortMapping{o.natRule, "", port})
			}
		}
	}
	return all, vacated
}
