// Rules for the host ports that a node pool with public IPs is allowed.

package nsg

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// HostPorts is a range of ports that the nodes of a pool are reached at, by their own
// public addresses.
type HostPorts struct {
	Protocol    Protocol // TCP or UDP
	First, Last uint16   // 1..65535
}

// ParseHostPorts reads a list of host ports as AKS takes it for a node pool, such as
// "80/tcp,443/tcp,53/udp,40000-60000/tcp". Ranges may overlap. That case and spaces do not
// matter is our choice. All problems come in one error, by the index of the entry.
func ParseHostPorts(text string) ([]HostPorts, error) {
	var (
		all []HostPorts
		l   problems.List
	)
	for i, entry := range strings.Split(text, ",") {
		entry = strings.TrimSpace(entry)
		ports, name, _ := strings.Cut(entry, "/")
		r, err := parsePorts(strings.TrimSpace(ports))
		proto, err2 := ParseProtocol(strings.TrimSpace(name))
		if err != nil || err2 != nil || strings.Contains(ports, everything) || proto != TCP && proto != UDP || r.first == 0 {
			l.Add(problems.Index("AllowedHostPorts", i), entry, flow.ErrSyntax, "want PORT/PROTOCOL or FIRST-LAST/PROTOCOL, ports 1..65535, protocol tcp or udp")
			continue
		}
		all = append(all, HostPorts{proto, r.first, r.last})
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

// AddHostPorts returns rules, those of a cluster's group, and what lets the Internet reach
// host ports of the members of an application security group, which AKS makes of the nodes
// of the pool. It leaves its argument alone. There is one rule for each protocol. That they
// take priorities as rules for Services do, and their names, is our choice.
//
// A group denies host ports by its default rules until such rules are in it. A group of the
// subnet has to allow them, too, and is the user's to open.
func AddHostPorts(rules []SecurityRule, ports []HostPorts, applicationSecurityGroup string) ([]SecurityRule, error) {
	m := manager{rules: slices.Clone(rules)}
	for _, proto := range []Protocol{TCP, UDP} {
		var ranges []string
		for _, p := range ports {
			switch {
			case p.Protocol != proto:
			case p.First == p.Last:
				ranges = append(ranges, fmt.Sprint(p.First))
			default:
				ranges = append(ranges, fmt.Sprintf("%d-%d", p.First, p.Last))
			}
		}
		if len(ranges) > 0 {
			m.add(SecurityRule{
				Name: fmt.Sprintf("aks-allowed-host-ports_%v_%s", proto, applicationSecurityGroup), Access: Allow, Protocol: proto,
				SourceAddressPrefixes: []string{TagInternet}, DestinationApplicationSecurityGroups: []string{applicationSecurityGroup},
				DestinationPortRanges: ranges,
			})
		}
	}
	return m.result()
}
