package command

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// DefaultPreset is the preset of commands that are not told any.
const DefaultPreset = "azure-lb"

// PresetUsage is the usage of the flag -preset.
func PresetUsage() string { return "`name` of the translator to behave as:\n" + presets() }

// Preset returns the preset that the flag -preset names. An error lists all of them.
func Preset(name string) (preset.Preset, error) {
	p, ok := preset.ByName(name)
	if !ok {
		return p, fmt.Errorf("-preset %q: must be one of\n%s", name, presets())
	}
	return p, nil
}

// presets lists all presets with their summaries, one per line.
func presets() string {
	all, width := preset.All(), 0
	for _, p := range all {
		width = max(width, len(p.Name))
	}
	lines := make([]string, len(all))
	for i, p := range all {
		lines[i] = fmt.Sprintf("  %-*s  %s", width, p.Name, p.Summary)
	}
	return strings.Join(lines, "\n")
}

// Preallocated returns how many ports of each address family a preset grants to
// each instance of a site, if that does not depend on how many instances there
// are. It returns 0 for presets that share all ports of the frontends, however many
// hosts there are, and for those that cannot configure the site.
func Preallocated(p preset.Preset, s preset.Site) (ports int) {
	granted := func(instances int) (most int) {
		s.Instances = make([]snat.Instance, instances)
		for i := range s.Instances {
			host := netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)})
			s.Instances[i] = snat.Instance{Name: host.String(), Addrs: []netip.Addr{host}}
		}
		c, err := p.Configure(s)
		if _, shared := c.Ports.(*snat.Shared); shared || err != nil {
			return 0
		}
		families := map[bool]int{}
		for _, r := range c.Instances[0].Ports {
			families[r.Frontend.Is6()] += r.Count
		}
		return max(families[false], families[true])
	}
	one, two := granted(1), granted(2)
	if two != 0 && two != one { // 0 if there are not enough for two
		return 0
	}
	return one
}

// Merge returns prefixes without those that lie within another one, in their order.
func Merge(prefixes []netip.Prefix) (merged []netip.Prefix) {
	for i, p := range prefixes {
		within := false
		for j, q := range prefixes {
			covers := q.Bits() <= p.Bits() && q.Contains(p.Addr())
			within = within || covers && (q != p || j < i)
		}
		if !within {
			merged = append(merged, p)
		}
	}
	return merged
}
