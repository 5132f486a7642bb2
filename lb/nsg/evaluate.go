// Decisions: which group is asked, and what it says.

package nsg

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
)

// Flow is the first packet of a flow, as groups see it.
type Flow struct {
	Direction Direction // who begins it
	Protocol  uint8     // IP protocol number

	// Source and Destination are valid addresses of one family, not IPv4-mapped. For ICMP
	// and other protocols without ports their ports do not matter.
	Source, Destination netip.AddrPort

	// Interface is an address of the interface whose groups are asked. The zero Addr
	// stands for that end of the flow: Destination if Inbound, else Source. Set it where
	// the interface has another address: with floating IP, and for a pod on a node.
	Interface netip.Addr
}

// Level says where a group is associated.
type Level uint8

// The levels.
const (
	NoLevel        Level = iota // neither has a group
	SubnetLevel                 // with the subnet
	InterfaceLevel              // with the network interface
	numLevels
)

var levelNames = [...]string{"none", "subnet", "interface"}

var _ = [1]struct{}{}[len(levelNames)-int(numLevels)] // one name per level

// String returns "none", "subnet" or "interface".
func (l Level) String() string { return enum.Name(l, levelNames[:]) }

// Decision is what becomes of a flow, and why: the first rule that denies it, or else the
// rule of the last level asked that allows it.
type Decision struct {
	Access   Access // whether the flow is allowed
	Level    Level  // of Group
	Group    string // name of the group; empty at NoLevel
	Rule     string // name of the rule; empty if there is no group, and that is Open
	Priority int    // of the rule; 0 if the flow is to the platform, which no group shows
}

// Evaluate decides about a flow. Cost is 100 to 200 ns at each level that has a group, the
// latter for 1,000 rules with 4,000 prefixes at each end.
func (c *Compiled) Evaluate(f Flow) Decision {
	level, p, i := c.decide(&f)
	if p == nil {
		return Decision{Access: Allow}
	}
	r := &p.rules[i]
	return Decision{r.Access, level, p.group, r.Name, r.Priority}
}

// decide returns the level, program and rule that decide. There is no program if nothing
// restricts the flow.
func (c *Compiled) decide(f *Flow) (level Level, p *program, rule int) {
	for _, s := range c.stages(f) {
		if s.program != nil {
			level, p, rule = s.level, s.program, s.program.decide(f)
			if p.rules[rule].Access == Deny {
				break
			}
		}
	}
	return level, p, rule
}

// stage is a program that is asked, nil if none is, and the level of its group.
type stage struct {
	level   Level
	program *program
}

// stages returns what is asked about a flow, in order.
func (c *Compiled) stages(f *Flow) [2]stage {
	at := f.Interface
	switch {
	case at.IsValid():
	case f.Direction == Inbound:
		at = f.Destination.Addr()
	default:
		at = f.Source.Addr()
	}
	groups := levels{none, none}
	if row := match(c.interfaces, at); row >= 0 {
		groups = c.groups[row]
	}
	if groups.subnet == none && groups.nic == none {
		return [2]stage{{NoLevel, c.programs[len(c.programs)-1][f.Direction]}}
	}
	var s [2]stage
	if groups.subnet != none {
		s[0] = stage{SubnetLevel, c.programs[groups.subnet][f.Direction]}
	}
	if groups.nic != none {
		s[1] = stage{InterfaceLevel, c.programs[groups.nic][f.Direction]}
	}
	if f.Direction == Outbound {
		s[0], s[1] = s[1], s[0]
	}
	return s
}

// Admit returns flow.ReasonNone if a flow is allowed, and otherwise the reason for which
// its first packet is dropped. inside is the private socket behind the interface, remote
// its peer; at is as [Flow.Interface]. It is [Compiled.Evaluate] in the form that a
// translator asks for.
func (c *Compiled) Admit(d Direction, protocol uint8, inside, remote netip.AddrPort, at netip.Addr) flow.Reason {
	f := Flow{d, protocol, inside, remote, at}
	if d == Inbound {
		f.Source, f.Destination = remote, inside
	}
	if _, p, i := c.decide(&f); p == nil || p.rules[i].Access == Allow {
		return flow.ReasonNone
	}
	if d == Inbound {
		return flow.ReasonNSGInbound
	}
	return flow.ReasonNSGOutbound
}

// class is a kind of IP protocols that rules tell apart.
type class uint8

// The classes.
const (
	otherClass class = iota // without ports
	tcpClass
	udpClass
	icmpClass
	espClass
	ahClass
	sctpClass // has ports, and no name of its own
	numClasses
)

func classOf(protocol uint8) class {
	switch protocol {
	case 6:
		return tcpClass
	case 17:
		return udpClass
	case 1, 58:
		return icmpClass
	case 50:
		return espClass
	case 51:
		return ahClass
	case 132:
		return sctpClass
	}
	return otherClass
}

// ported reports whether packets of the class have ports.
func (c class) ported() bool { return c == tcpClass || c == udpClass || c == sctpClass }

// fits reports whether a rule for p is for the class.
func (c class) fits(p Protocol) bool {
	switch p {
	case Any:
		return true
	case TCP:
		return c == tcpClass
	case UDP:
		return c == udpClass
	case ICMP:
		return c == icmpClass
	case ESP:
		return c == espClass
	}
	return c == ahClass
}
