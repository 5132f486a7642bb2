// The texts of a rule: addresses and ports, as Azure writes them.

package nsg

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// end is one end of a rule, as it is compiled.
type end struct {
	all      bool           // every address of both families
	tag      string         // name of a service tag, or ""
	prefixes []netip.Prefix // what else it stands for; those of a tag, and of members
	ports    []portRange
	anyPort  bool // ports are all there are
}

// portRange is the ports from first to last.
type portRange struct{ first, last uint16 }

// endFields are the fields of a rule for one end, and their names.
type endFields struct {
	prefixes, groups, ports []string
	name                    string // "Source" or "Destination"
}

func (r *SecurityRule) source() endFields {
	return endFields{r.SourceAddressPrefixes, r.SourceApplicationSecurityGroups, r.SourcePortRanges, "Source"}
}

func (r *SecurityRule) destination() endFields {
	return endFields{r.DestinationAddressPrefixes, r.DestinationApplicationSecurityGroups, r.DestinationPortRanges, "Destination"}
}

// isEvery reports whether a text stands for every address.
func isEvery(text string) bool { return text == everything || strings.EqualFold(text, "Any") }

// parsePrefix reads a prefix or an address. ok is false if the text can only be the name of
// a tag.
func parsePrefix(text string) (p netip.Prefix, ok bool, err error) {
	bad := func(kind error, detail string, args ...any) (netip.Prefix, bool, error) {
		return netip.Prefix{}, true, problems.New("", text, kind, "SecurityRuleInvalidAddressPrefix: "+detail, args...)
	}
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return bad(flow.ErrPrefix, "want a prefix such as 10.0.0.0/8")
		case p.Addr().Is4In6():
			return bad(flow.ErrPrefix, "it is IPv4-mapped")
		case p != p.Masked():
			return bad(flow.ErrPrefix, "did you mean %v?", p.Masked())
		}
		return p, true, nil
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err == nil && (a.Zone() != "" || a.Is4In6()):
		return bad(flow.ErrAddress, "it is IPv4-mapped, or has a zone")
	case err == nil:
		return netip.PrefixFrom(a, a.BitLen()), true, nil
	case !isName(text):
		return bad(flow.ErrSyntax, "want a prefix, an address, a service tag, or *")
	}
	return p, false, nil
}

// isName reports whether a text can be the name of a service tag: letters, digits, '.',
// '-' and '_', of which the first is a letter.
func isName(text string) bool {
	return text != "" && isLetter(text[0]) && !strings.ContainsFunc(text, func(c rune) bool {
		return c >= 0x80 || !isWord(byte(c)) && c != '.' && c != '-'
	})
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isWord reports whether c is a letter, a digit or '_'.
func isWord(c byte) bool { return isLetter(c) || '0' <= c && c <= '9' || c == '_' }

// parsePorts reads a range of ports.
func parsePorts(text string) (portRange, error) {
	if text == everything {
		return portRange{0, 0xffff}, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, err1 := port(first)
	b, err2 := port(last)
	switch {
	case err1 != nil || err2 != nil:
		return portRange{}, problems.New("", text, flow.ErrSyntax, "SecurityRuleInvalidPortRange: want a port, two of 0..65535 as in 1000-2000, or *")
	case a > b:
		return portRange{}, problems.New("", text, flow.ErrOutOfRange, "SecurityRuleInvalidPortRange: it ends before it begins")
	}
	return portRange{a, b}, nil
}

func port(text string) (uint16, error) {
	if strings.HasPrefix(text, "+") {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err
}

// compile makes an end of the texts of a valid rule.
func (f endFields) compile(t tags, members map[string][]netip.Addr) (e end) {
	for _, text := range f.prefixes {
		p, ok, _ := parsePrefix(text)
		switch {
		case isEvery(text):
			e.all = true
		case ok:
			e.prefixes = append(e.prefixes, p)
		default:
			e.tag, e.prefixes = text, t[text]
		}
	}
	for _, name := range f.groups {
		for _, a := range members[name] {
			e.prefixes = append(e.prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	e.ports = f.compilePorts()
	e.anyPort = len(e.ports) == 1 && e.ports[0] == portRange{0, 0xffff}
	return e
}

// compilePorts returns the ranges in order, those that touch as one. No range is every
// port.
func (f endFields) compilePorts() []portRange {
	all := []portRange{{0, 0xffff}}
	if len(f.ports) == 0 {
		return all
	}
	ranges := make([]portRange, 0, len(f.ports))
	for _, text := range f.ports {
		r, _ := parsePorts(text)
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, func(a, b portRange) int { return int(a.first) - int(b.first) })
	merged := ranges[:1]
	for _, r := range ranges[1:] {
		if last := &merged[len(merged)-1]; int(r.first) <= int(last.last)+1 {
			last.last = max(last.last, r.last)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}
