// Validation: every range, reference and conflict of a Config, all in one error.

package nsg

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Specification constants (limits document; overview document for names and priorities).
const (
	maxGroups           = 5000
	maxRules            = 1000 // of a group
	maxPrefixes         = 4000 // of the sources of a group's rules, and of the destinations
	maxAppGroups        = 3000
	maxAppGroupMembers  = 4000
	maxAppGroupsOfAddr  = 20
	maxAppGroupsOfRule  = 10
	maxAppGroupsOfGroup = 100
	maxRuleName         = 80
	minPriority         = 100
	maxPriority         = 4096
)

// Validate returns nil if c can be compiled. Otherwise the error reports all problems, each
// with the path of the field and the value as it was written, and wraps sentinels of
// package flow. Where Azure's own code for the error is known, the message has it.
func (c *Config) Validate() error {
	v := &validator{Config: c, tags: c.tags()}
	for i, p := range c.VirtualNetwork {
		v.prefix(problems.Index("VirtualNetwork", i), p)
	}
	problems.Constant(&v.List, "WithoutGroup", c.WithoutGroup, numWithoutGroup)
	v.serviceTags()
	v.applicationSecurityGroups()
	v.networkSecurityGroups()
	v.subnets()
	v.networkInterfaces()
	return v.Err()
}

// validator is a Config that is being checked.
type validator struct {
	*Config
	problems.List
	tags      tags
	appGroups map[string]bool
	groups    map[string]bool
}

// names checks that the elements of a list have different names, and returns them.
func (v *validator) names(list string, n int, name func(int) string) map[string]bool {
	names := make(map[string]bool, n)
	for i := range n {
		switch path := problems.Index(list, i) + ".Name"; {
		case name(i) == "":
			v.Add(path, name(i), flow.ErrMissing, "")
		case names[name(i)]:
			v.Add(path, name(i), flow.ErrDuplicateName, "")
		}
		names[name(i)] = true
	}
	return names
}

func (v *validator) prefix(path string, p netip.Prefix) {
	switch {
	case !p.IsValid() || p.Addr().Is4In6():
		v.Add(path, p, flow.ErrPrefix, "want an IPv4 or IPv6 prefix, not IPv4-mapped")
	case p != p.Masked():
		v.Add(path, p, flow.ErrPrefix, "did you mean %v?", p.Masked())
	}
}

func (v *validator) addr(path string, a netip.Addr) bool {
	if flow.IsHost(a) {
		return true
	}
	v.Add(path, a, flow.ErrAddress, "")
	return false
}

func (v *validator) serviceTags() {
	v.names("ServiceTags", len(v.ServiceTags), func(i int) string { return v.ServiceTags[i].Name })
	for i, t := range v.ServiceTags {
		path := problems.Index("ServiceTags", i)
		switch {
		case builtIn(t.Name):
			v.Add(path+".Name", t.Name, flow.ErrDuplicateName, "it is built in")
		case t.Name != "" && (!isName(t.Name) || isEvery(t.Name)):
			v.Add(path+".Name", t.Name, flow.ErrSyntax, "want letters, digits, '.', '-' and '_', the first a letter, and not Any")
		}
		for j, p := range t.Prefixes {
			v.prefix(problems.Index(path+".Prefixes", j), p)
		}
	}
}

func (v *validator) applicationSecurityGroups() {
	const list = "ApplicationSecurityGroups"
	problems.AtMost(&v.List, list, len(v.ApplicationSecurityGroups), "elements", maxAppGroups)
	v.appGroups = v.names(list, len(v.ApplicationSecurityGroups), func(i int) string { return v.ApplicationSecurityGroups[i].Name })
	of := map[netip.Addr]int{}
	for i, g := range v.ApplicationSecurityGroups {
		path := problems.Index(list, i) + ".Addrs"
		problems.AtMost(&v.List, path, len(g.Addrs), "addresses", maxAppGroupMembers)
		seen := make(map[netip.Addr]bool, len(g.Addrs))
		for j, a := range g.Addrs {
			switch path := problems.Index(path, j); {
			case !v.addr(path, a):
			case seen[a]:
				v.Add(path, a, flow.ErrOverlap, "the group has it already")
			default:
				if of[a]++; of[a] == maxAppGroupsOfAddr+1 {
					v.Add(path, a, flow.ErrTooMany, "an address is in at most %d such groups", maxAppGroupsOfAddr)
				}
			}
			seen[a] = true
		}
	}
}

func (v *validator) networkSecurityGroups() {
	const list = "NetworkSecurityGroups"
	problems.AtMost(&v.List, list, len(v.NetworkSecurityGroups), "elements", maxGroups)
	v.groups = v.names(list, len(v.NetworkSecurityGroups), func(i int) string { return v.NetworkSecurityGroups[i].Name })
	for i, g := range v.NetworkSecurityGroups {
		path := problems.Index(list, i) + ".SecurityRules"
		problems.AtMost(&v.List, path, len(g.SecurityRules), "elements", maxRules)
		sources, destinations, appGroups := 0, 0, map[string]bool{}
		for _, r := range g.SecurityRules {
			sources += len(r.SourceAddressPrefixes)
			destinations += len(r.DestinationAddressPrefixes)
			for _, name := range slices.Concat(r.SourceApplicationSecurityGroups, r.DestinationApplicationSecurityGroups) {
				appGroups[name] = true
			}
		}
		problems.AtMost(&v.List, path, sources, "source prefixes", maxPrefixes)
		problems.AtMost(&v.List, path, destinations, "destination prefixes", maxPrefixes)
		problems.AtMost(&v.List, path, len(appGroups), "application security groups", maxAppGroupsOfGroup)
		v.rules(path, g.SecurityRules)
	}
}

// rules checks the rules of one group.
func (v *validator) rules(list string, rules []SecurityRule) {
	names := map[string]bool{}
	for _, d := range []Direction{Inbound, Outbound} {
		for _, r := range DefaultRules(d) {
			names[strings.ToLower(r.Name)] = true
		}
	}
	priorities := map[[2]int]string{}
	for i := range rules {
		r, path := &rules[i], problems.Index(list, i)
		switch name := strings.ToLower(r.Name); {
		case r.Name == "":
			v.Add(path+".Name", r.Name, flow.ErrMissing, "")
		case names[name]:
			v.Add(path+".Name", r.Name, flow.ErrDuplicateName, "names differ in more than case, also from those of default rules")
		case !isRuleName(r.Name):
			v.Add(path+".Name", r.Name, flow.ErrSyntax, "want 1..%d letters, digits, '.', '-' and '_', the first none of '.' and '-', nor the last", maxRuleName)
		default:
			names[name] = true
		}
		problems.Constant(&v.List, path+".Direction", r.Direction, numDirections)
		problems.Constant(&v.List, path+".Access", r.Access, numAccesses)
		problems.Constant(&v.List, path+".Protocol", r.Protocol, numProtocols)
		if key := [2]int{int(r.Direction), r.Priority}; problems.Between(&v.List, path+".Priority", r.Priority, minPriority, maxPriority) {
			if other, taken := priorities[key]; taken {
				v.Add(path+".Priority", r.Priority, flow.ErrConflict, "SecurityRuleConflict: %s has it in this direction", other)
			} else {
				priorities[key] = path
			}
		}
		source, destination := v.end(path, r, r.source()), v.end(path, r, r.destination())
		if source.IsValid() && destination.IsValid() && source.Is4() != destination.Is4() {
			v.Add(path+".DestinationAddressPrefixes", r.DestinationAddressPrefixes[0], flow.ErrConflict, mixedFamilies)
		}
	}
}

// isRuleName reports whether Azure accepts a text as the name of a rule.
func isRuleName(text string) bool {
	return len(text) <= maxRuleName && isWord(text[0]) && isWord(text[len(text)-1]) &&
		!strings.ContainsFunc(text, func(c rune) bool { return c >= 0x80 || !isWord(byte(c)) && c != '.' && c != '-' })
}

const mixedFamilies = "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies: all prefixes of a rule are of one family"

// end checks one end of a rule, and returns an address of its family, if it has one.
func (v *validator) end(path string, r *SecurityRule, f endFields) (family netip.Addr) {
	prefixes, groups := path+"."+f.name+"AddressPrefixes", path+"."+f.name+"ApplicationSecurityGroups"
	switch {
	case len(f.prefixes) == 0 && len(f.groups) == 0:
		v.Add(prefixes, problems.None, flow.ErrMissing, "give prefixes or application security groups")
	case len(f.prefixes) > 0 && len(f.groups) > 0:
		v.Add(groups, f.groups, flow.ErrConflict, "%sAddressPrefixes are given, too", f.name)
	}
	problems.AtMost(&v.List, groups, len(f.groups), "elements", maxAppGroupsOfRule)
	for i, name := range f.groups {
		if path := problems.Index(groups, i); slices.Contains(f.groups[:i], name) {
			v.Add(path, name, flow.ErrDuplicateName, "")
		} else if !v.appGroups[name] {
			v.Add(path, name, flow.ErrUnknownName, "no application security group has this name")
		}
	}
	v.ports(path+"."+f.name+"PortRanges", r.Protocol, f)
	return v.prefixes(prefixes, f.prefixes)
}

// prefixes checks the prefixes of an end, and returns the first address.
func (v *validator) prefixes(list string, texts []string) (family netip.Addr) {
	var all []place
	for i, text := range texts {
		path := problems.Index(list, i)
		p, ok, err := parsePrefix(text)
		switch {
		case isEvery(text) || !ok:
			if _, known := v.tags[text]; !isEvery(text) && (!known || text == platformTag) {
				v.Add(path, text, flow.ErrUnknownName, "no service tag has this name")
			}
			if len(texts) > 1 {
				v.Add(path, text, flow.ErrConflict, "SecurityRuleParameterContainsUnsupportedValue: a service tag, and *, is the only prefix of its rule")
			}
			continue
		case err != nil:
			v.Include(path, err)
			continue
		case !family.IsValid():
			family = p.Addr()
		case family.Is4() != p.Addr().Is4():
			v.Add(path, text, flow.ErrConflict, mixedFamilies)
		}
		all = append(all, place{p, path, text})
	}
	v.overlaps(all, "OverlappingSubnetsNotPermittedInSecurityRule: ")
	return family
}

// place is a prefix, the path of the field that has it, and what is written there.
type place struct {
	prefix  netip.Prefix
	path    string
	written any
}

// overlaps adds a problem for each place that lies in another one.
func (v *validator) overlaps(all []place, code string) {
	slices.SortStableFunc(all, func(a, b place) int { return a.prefix.Compare(b.prefix) })
	widest := 0 // the last one that none before it holds
	for i := 1; i < len(all); i++ {
		if all[widest].prefix.Overlaps(all[i].prefix) {
			v.Add(all[i].path, all[i].written, flow.ErrOverlap, "%s%s has it, too", code, all[widest].path)
		} else {
			widest = i
		}
	}
}

func (v *validator) ports(list string, proto Protocol, f endFields) {
	portless := proto == ICMP || proto == ESP || proto == AH
	if len(f.ports) == 0 && f.name == "Destination" && !portless {
		v.Add(list, problems.None, flow.ErrMissing, "give ports, or *")
	}
	for i, text := range f.ports {
		path := problems.Index(list, i)
		r, err := parsePorts(text)
		switch {
		case err != nil:
			v.Include(path, err)
		case portless && r != portRange{0, 0xffff}:
			v.Add(path, text, flow.ErrOutOfRange, "%v has no ports; want *", proto)
		case text == everything && len(f.ports) > 1:
			v.Add(path, text, flow.ErrConflict, "* is the only range of its rule")
		}
	}
}

func (v *validator) subnets() {
	v.names("Subnets", len(v.Subnets), func(i int) string { return v.Subnets[i].Name })
	var all []place
	for i, s := range v.Subnets {
		path := problems.Index("Subnets", i)
		v.group(path, s.NetworkSecurityGroup)
		if len(s.AddressPrefixes) == 0 {
			v.Add(path+".AddressPrefixes", problems.None, flow.ErrMissing, "")
		}
		for j, p := range s.AddressPrefixes {
			path := problems.Index(path+".AddressPrefixes", j)
			v.prefix(path, p)
			if p.IsValid() {
				all = append(all, place{p.Masked(), path, p})
			}
		}
	}
	v.overlaps(all, "")
}

func (v *validator) networkInterfaces() {
	const list = "NetworkInterfaces"
	v.names(list, len(v.NetworkInterfaces), func(i int) string { return v.NetworkInterfaces[i].Name })
	seen := map[netip.Addr]string{}
	for i, n := range v.NetworkInterfaces {
		path := problems.Index(list, i)
		v.group(path, n.NetworkSecurityGroup)
		if len(n.Addrs) == 0 {
			v.Add(path+".Addrs", problems.None, flow.ErrMissing, "")
		}
		for j, a := range n.Addrs {
			path := problems.Index(path+".Addrs", j)
			if other, taken := seen[a]; !v.addr(path, a) {
				continue
			} else if taken {
				v.Add(path, a, flow.ErrOverlap, "%s is the same", other)
			}
			seen[a] = path
		}
	}
}

func (v *validator) group(path, name string) {
	if name != "" && !v.groups[name] {
		v.Add(path+".NetworkSecurityGroup", name, flow.ErrUnknownName, "no network security group has this name")
	}
}
