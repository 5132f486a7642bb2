// Explanations: rule by rule, what fits a flow and what does not.

package nsg

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/internal/enum"
)

// Field is what a rule compares with a flow.
type Field uint8

// The fields, in the order in which they are compared.
const (
	NoField Field = iota // everything fits
	ProtocolField
	SourceAddressField
	SourcePortField
	DestinationAddressField
	DestinationPortField
	numFields
)

var fieldNames = [...]string{"none", "protocol", "source address", "source port", "destination address", "destination port"}

var _ = [1]struct{}{}[len(fieldNames)-int(numFields)] // one name per field

// String returns the field's name, such as "source port".
func (f Field) String() string { return enum.Name(f, fieldNames[:]) }

// Explanation says how a decision comes about.
type Explanation struct {
	Flow     Flow     // that was asked about
	Decision Decision // what Evaluate returns
	Stages   []Stage  // the groups asked, in order; none if there is no group and that is Open
}

// Stage is what one group says.
type Stage struct {
	Level  Level    // of Group
	Group  string   // empty at NoLevel, where the default rules decide
	Access Access   // of the last of Rules
	Rules  []Result // by priority, up to the one that fits
}

// Result is what a rule says.
type Result struct {
	Rule     SecurityRule // a copy
	Mismatch Field        // the first field that does not fit; NoField if the rule decides
	Why      string       // what does not fit, such as "destination port 80 is not in 443"
}

// Explain decides about a flow as [Compiled.Evaluate] does, and says of each rule that was
// looked at why it did not fit. Cost grows with the number of rules; it allocates.
func (c *Compiled) Explain(f Flow) Explanation {
	e := Explanation{Flow: f, Decision: c.Evaluate(f)}
	for _, s := range c.stages(&f) {
		if s.program == nil {
			continue
		}
		stage := c.explain(&f, s)
		e.Stages = append(e.Stages, stage)
		if stage.Access == Deny {
			break
		}
	}
	return e
}

func (c *Compiled) explain(f *Flow, s stage) Stage {
	stage := Stage{Level: s.level, Group: s.program.group}
	for i := range s.program.rules {
		r := &s.program.rules[i]
		field, why := c.mismatch(r, f)
		if r.Priority == platformRule.Priority && field != NoField {
			continue // no group shows it
		}
		stage.Rules = append(stage.Rules, Result{r.SecurityRule.clone(), field, why})
		if field == NoField {
			stage.Access = r.Access
			break
		}
	}
	return stage
}

// mismatch returns the first field of a rule that does not fit a flow, and the reason.
func (c *Compiled) mismatch(r *rule, f *Flow) (Field, string) {
	class := classOf(f.Protocol)
	if !class.fits(r.Protocol) {
		return ProtocolField, fmt.Sprintf("protocol %s is not %v", protocolText(f.Protocol), r.Protocol)
	}
	socket := [2]netip.AddrPort{f.Source, f.Destination}
	fields := [2]endFields{r.source(), r.destination()}
	for i, field := range []Field{SourceAddressField, DestinationAddressField} {
		e, name := &r.ends[i], strings.ToLower(fields[i].name)
		platform := i == 1 && f.Direction == Outbound && slices.ContainsFunc(platformAddrs, holds(socket[i].Addr()))
		switch {
		case platform && !reachesPlatform(e.tag):
			return field, fmt.Sprintf("%s address %v is the platform's, on which only tags %s... act", name, socket[i].Addr(), platformTag)
		case !c.hasAddr(e, socket[i].Addr()):
			return field, fmt.Sprintf("%s address %v is not in %s", name, socket[i].Addr(), list(slices.Concat(fields[i].prefixes, fields[i].groups)))
		case !class.ported() && !e.anyPort:
			return field + 1, fmt.Sprintf("protocol %s has no %s port", protocolText(f.Protocol), name)
		case class.ported() && !e.hasPort(socket[i].Port()):
			return field + 1, fmt.Sprintf("%s port %d is not in %s", name, socket[i].Port(), list(fields[i].ports))
		}
	}
	return NoField, ""
}

// hasAddr reports whether an end fits an address.
func (c *Compiled) hasAddr(e *end, a netip.Addr) bool {
	if e.tag == TagInternet {
		return !slices.ContainsFunc(c.tags.notInternet(), holds(a))
	}
	return e.all || slices.ContainsFunc(e.prefixes, holds(a))
}

// holds returns a test whether a prefix holds an address.
func holds(a netip.Addr) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool { return p.Contains(a) }
}

// list shows a few of many texts.
func list(texts []string) string {
	const most = 4
	if n := len(texts); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), n-most)
	}
	return strings.Join(texts, ", ")
}

// protocolText returns the name of an IP protocol, or its number.
func protocolText(protocol uint8) string {
	class := classOf(protocol)
	for p := TCP; p < numProtocols; p++ {
		if class.fits(p) {
			return p.String()
		}
	}
	return fmt.Sprint(protocol)
}

// String returns the flow with its decision in one line, one line for each group, and one
// for each rule.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %v\n", e.Flow, e.Decision.Access)
	if len(e.Stages) == 0 {
		b.WriteString("  no group\n")
	}
	for _, s := range e.Stages {
		if s.Level == NoLevel {
			b.WriteString("  no group, default rules\n")
		} else {
			fmt.Fprintf(&b, "  %v group %s\n", s.Level, s.Group)
		}
		for _, r := range s.Rules {
			what := r.Rule.Access.String()
			if r.Mismatch != NoField {
				what = "no: " + r.Why
			}
			fmt.Fprintf(&b, "    %d %s: %s\n", r.Rule.Priority, r.Rule.Name, what)
		}
	}
	return b.String()
}

// String returns the flow as "Inbound Tcp 203.0.113.9:50000 > 10.0.0.4:443".
func (f Flow) String() string {
	s := fmt.Sprintf("%v %s ", f.Direction, protocolText(f.Protocol))
	if classOf(f.Protocol).ported() {
		s += fmt.Sprintf("%v > %v", f.Source, f.Destination)
	} else {
		s += fmt.Sprintf("%v > %v", f.Source.Addr(), f.Destination.Addr())
	}
	if f.Interface.IsValid() {
		s += fmt.Sprintf(" at %v", f.Interface)
	}
	return s
}
