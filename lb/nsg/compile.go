// Compilation: of each group and direction a program, of each address and port the rules
// that it fits.

package nsg

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
)

// Compiled decides about flows. It never changes, and is safe for concurrent use. Memory is
// one bit per rule for each different set of rules that some address or port fits, and
// about 50 bytes for each prefix.
type Compiled struct {
	programs [][numDirections]*program // by group, and last that of no group
	tags     tags

	// The groups of an interface are those of the row that its address belongs to.
	interfaces *prefixes.Table
	groups     []levels
}

// levels are the groups of an interface, as indexes of programs, or none.
type levels struct{ subnet, nic int32 }

// none is where no group is.
const none = -1

// program is the rules of a group for one direction. Rules are numbered by priority. A set
// is a row of bits, one for each rule, lowest numbers first.
type program struct {
	group string // its name, "" for that of no group
	rules []rule

	words     int      // of each set
	sets      []uint64 // all sets, one after the other; a set is named by where it begins
	protocols [numClasses]uint32
	ends      [2]tables // source, destination
}

// rule is a rule, and what its texts mean.
type rule struct {
	SecurityRule
	ends [2]end // source, destination
}

// tables say which rules an end of a flow fits.
type tables struct {
	addrs  *prefixes.Table
	ofAddr []uint32                 // set, by row of addrs
	others [flow.NumFamilies]uint32 // set of addresses in no row, by family

	starts  []uint16 // of runs of ports; the first is 0
	ofPort  []uint32 // set, by run
	anyPort uint32   // set for packets without ports: rules that restrict none
}

// Compile checks a configuration, and makes it ready to decide. Errors are those of
// [Config.Validate]. Cost grows with the number of prefixes times that of rules: some 20 ms
// for the largest group that Azure allows.
func Compile(config Config) (*Compiled, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Compiled{tags: config.tags()}
	members := map[string][]netip.Addr{}
	for _, g := range config.ApplicationSecurityGroups {
		members[g.Name] = g.Addrs
	}
	index := map[string]int32{"": none}
	for i, g := range config.NetworkSecurityGroups {
		index[g.Name] = int32(i)
		c.programs = append(c.programs, c.compileGroup(g, members))
	}
	var without [numDirections]*program
	if config.WithoutGroup == Closed {
		without = c.compileGroup(NetworkSecurityGroup{}, nil)
		without[Outbound] = nil
	}
	c.programs = append(c.programs, without)
	c.associate(&config, index)
	return c, nil
}

// associate builds the table of interfaces. Its rows are network interfaces before subnets:
// a prefix of a subnet may be a single address, and the first row of a prefix counts.
func (c *Compiled) associate(config *Config, index map[string]int32) {
	var rows, nics []prefixes.Row
	var subnet []int32 // group, by row
	for _, s := range config.Subnets {
		for _, p := range s.AddressPrefixes {
			rows, subnet = append(rows, prefixes.Row{Prefix: p, Last: 0xffff}), append(subnet, index[s.NetworkSecurityGroup])
		}
	}
	subnets := prefixes.New(rows)
	for _, n := range config.NetworkInterfaces {
		for _, a := range n.Addrs {
			l := levels{none, index[n.NetworkSecurityGroup]}
			if row := match(subnets, a); row >= 0 {
				l.subnet = subnet[row]
			}
			nics = append(nics, prefixes.Row{Prefix: netip.PrefixFrom(a, a.BitLen()), Last: 0xffff})
			c.groups = append(c.groups, l)
		}
	}
	for _, g := range subnet {
		c.groups = append(c.groups, levels{g, none})
	}
	c.interfaces = prefixes.New(append(nics, rows...))
}

// match returns the row of an address, or -1.
func match(t *prefixes.Table, a netip.Addr) int {
	if a.Is4() {
		return t.Match(false, prefixes.V4(flow.Addr4(a)), 0, prefixes.AnyPort)
	}
	return t.Match(true, prefixes.Addr(flow.Addr6(a)), 0, prefixes.AnyPort)
}

func (c *Compiled) compileGroup(g NetworkSecurityGroup, members map[string][]netip.Addr) (programs [numDirections]*program) {
	for d := range numDirections {
		var own []SecurityRule
		for _, r := range g.SecurityRules {
			if r.Direction == d {
				own = append(own, r)
			}
		}
		slices.SortFunc(own, func(a, b SecurityRule) int { return cmp.Compare(a.Priority, b.Priority) })
		if d == Outbound {
			own = append(own, platformRule)
		}
		p := &program{group: g.Name}
		for _, r := range append(own, DefaultRules(d)...) {
			r = r.clone()
			p.rules = append(p.rules, rule{r, [2]end{r.source().compile(c.tags, members), r.destination().compile(c.tags, members)}})
		}
		p.compile(d, c.tags)
		programs[d] = p
	}
	return programs
}

// clone returns a copy that shares nothing with r.
func (r SecurityRule) clone() SecurityRule {
	for _, list := range []*[]string{
		&r.SourceAddressPrefixes, &r.SourceApplicationSecurityGroups, &r.SourcePortRanges,
		&r.DestinationAddressPrefixes, &r.DestinationApplicationSecurityGroups, &r.DestinationPortRanges,
	} {
		*list = slices.Clone(*list)
	}
	return r
}

// compile makes the sets of a program whose rules are known.
func (p *program) compile(d Direction, t tags) {
	p.words = (len(p.rules) + 63) / 64
	k := keeper{p: p, at: map[string]uint32{}}
	for class := range numClasses {
		p.protocols[class] = k.keep(k.where(func(r *rule) bool { return class.fits(r.Protocol) }))
	}
	for i := range p.ends {
		k.addrs(i, d, t)
		k.ports(i)
	}
}

// set is a set of rules while it is built.
type set []uint64

func (s set) add(rule int) { s[rule/64] |= 1 << (rule % 64) }

// keeper stores the sets of a program, equal ones once.
type keeper struct {
	p  *program
	at map[string]uint32 // by content
}

func (k *keeper) keep(s set) uint32 {
	key := make([]byte, 0, len(s)*8)
	for _, w := range s {
		for b := 0; b < 64; b += 8 {
			key = append(key, byte(w>>b))
		}
	}
	at, ok := k.at[string(key)]
	if !ok {
		at = uint32(len(k.p.sets))
		k.p.sets = append(k.p.sets, s...)
		k.at[string(key)] = at
	}
	return at
}

// where returns the set of the rules that pass a test.
func (k *keeper) where(test func(*rule) bool) set {
	s := make(set, k.p.words)
	for i := range k.p.rules {
		if test(&k.p.rules[i]) {
			s.add(i)
		}
	}
	return s
}

// addrs builds the table of addresses of an end. From a prefix to the next longer one in it
// the set grows by the rules that name the longer one; in what is not the Internet it loses
// the rules with that tag; and at the platform's addresses all but those with its tags.
func (k *keeper) addrs(i int, d Direction, t tags) {
	internet := k.where(func(r *rule) bool { return r.ends[i].tag == TagInternet })
	outmost := k.where(func(r *rule) bool { return r.ends[i].all })
	for w := range outmost {
		outmost[w] |= internet[w]
	}
	named := map[netip.Prefix]set{netip.PrefixFrom(netip.IPv4Unspecified(), 0): nil, netip.PrefixFrom(netip.IPv6Unspecified(), 0): nil}
	for j := range k.p.rules {
		for _, p := range k.p.rules[j].ends[i].prefixes {
			if named[p] == nil {
				named[p] = make(set, k.p.words)
			}
			named[p].add(j)
		}
	}
	inside := map[netip.Prefix]bool{}
	for _, p := range t.notInternet() {
		inside[p] = true
		if _, is := named[p]; !is {
			named[p] = nil // no rule names it, and it is told apart nevertheless
		}
	}
	var platform set
	if d == Outbound && i == 1 {
		platform = k.where(func(r *rule) bool { return reachesPlatform(r.ends[i].tag) })
	}
	all := make([]netip.Prefix, 0, len(named))
	for p := range named {
		all = append(all, p)
	}
	slices.SortFunc(all, netip.Prefix.Compare)

	type open struct {
		prefix netip.Prefix
		rules  set
	}
	var around []open // prefixes that hold the one in hand, the longest last
	e := &k.p.ends[i]
	var rows []prefixes.Row
	for _, p := range all {
		for len(around) > 0 && !around[len(around)-1].prefix.Overlaps(p) {
			around = around[:len(around)-1]
		}
		s := slices.Clone(outmost)
		if len(around) > 0 {
			copy(s, around[len(around)-1].rules)
		}
		for w := range s {
			if inside[p] {
				s[w] &^= internet[w]
			}
			if platform != nil && slices.Contains(platformAddrs, p) {
				s[w] &= platform[w]
				s[w] |= named[p][w] & platform[w]
			} else if named[p] != nil {
				s[w] |= named[p][w]
			}
		}
		around = append(around, open{p, s})
		if p.Bits() == 0 { // no row, so that the table's index is as fine as it can be
			e.others[flow.Family(p.Addr())] = k.keep(s)
			continue
		}
		rows, e.ofAddr = append(rows, prefixes.Row{Prefix: p, Last: 0xffff}), append(e.ofAddr, k.keep(s))
	}
	e.addrs = prefixes.New(rows)
}

// ports builds the runs of ports of an end, in each of which all ports fit the same rules.
// A range of a rule begins or ends where a run does, and none of its ranges touch.
func (k *keeper) ports(i int) {
	type edge struct {
		port uint32 // where a range begins, or the port after it
		rule int
	}
	var edges []edge
	for j := range k.p.rules {
		for _, r := range k.p.rules[j].ends[i].ports {
			edges = append(edges, edge{uint32(r.first), j}, edge{uint32(r.last) + 1, j})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.port, b.port) })
	e, s := &k.p.ends[i], make(set, k.p.words)
	for at := uint32(0); at <= 0xffff; {
		for len(edges) > 0 && edges[0].port == at {
			s[edges[0].rule/64] ^= 1 << (edges[0].rule % 64)
			edges = edges[1:]
		}
		e.starts, e.ofPort = append(e.starts, uint16(at)), append(e.ofPort, k.keep(s))
		at = edges[0].port // the last default rule has an edge behind all ports
	}
	e.anyPort = k.keep(k.where(func(r *rule) bool { return r.ends[i].anyPort }))
}

// hasPort reports whether an end fits a port.
func (e *end) hasPort(port uint16) bool {
	i, _ := slices.BinarySearchFunc(e.ports, port, func(r portRange, port uint16) int { return cmp.Compare(r.last, port) })
	return i < len(e.ports) && e.ports[i].first <= port
}

// set returns the rules that an end of a flow fits. ported says whether its packets have
// ports.
func (e *tables) set(a netip.AddrPort, ported bool) (ofAddr, ofPort uint32) {
	if row := match(e.addrs, a.Addr()); row >= 0 {
		ofAddr = e.ofAddr[row]
	} else {
		ofAddr = e.others[flow.Family(a.Addr())]
	}
	if !ported {
		return ofAddr, e.anyPort
	}
	low, n, port := 0, len(e.starts), a.Port()
	for n > 1 {
		half := n / 2
		if e.starts[low+half] <= port {
			low += half
		}
		n -= half
	}
	return ofAddr, e.ofPort[low]
}

// decide returns the rule that decides about a flow. There is one: the last default rule
// fits everything.
func (p *program) decide(f *Flow) int {
	class := classOf(f.Protocol)
	sa, sp := p.ends[0].set(f.Source, class.ported())
	da, dp := p.ends[1].set(f.Destination, class.ported())
	row := func(at uint32) []uint64 { return p.sets[at:][:p.words] }
	a, b, c, d, e := row(p.protocols[class]), row(sa), row(sp), row(da), row(dp)
	for i := range a {
		if w := a[i] & b[i] & c[i] & d[i] & e[i]; w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	panic("nsg: no rule fits")
}
