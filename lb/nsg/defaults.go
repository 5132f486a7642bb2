// What every virtual network has: default rules, the platform, and the tags built in.

package nsg

import (
	"net/netip"
	"slices"
	"strings"
)

// Names of the service tags built in. See [ServiceTag].
const (
	TagVirtualNetwork    = "VirtualNetwork"
	TagAzureLoadBalancer = "AzureLoadBalancer"
	TagInternet          = "Internet"
	TagAzurePlatformDNS  = "AzurePlatformDNS"
	TagAzurePlatformIMDS = "AzurePlatformIMDS"
)

// platformTag is how the tags begin that act on what is sent to the platform.
const platformTag = "AzurePlatform"

// everything is the prefix, and the range of ports, of all.
const everything = "*"

// The platform (overview document). Probes of IPv6 backends come from a link-local address;
// documents do not say which, so the tag has them all.
var (
	hostAddr      = netip.MustParsePrefix("168.63.129.16/32")
	metadataAddr  = netip.MustParsePrefix("169.254.169.254/32")
	probesOfIPv6  = netip.MustParsePrefix("fe80::/10")
	platformAddrs = []netip.Prefix{hostAddr, metadataAddr}
)

// DefaultRules returns the rules of a direction that every group has after its own, by
// priority: VirtualNetwork to itself is allowed; so is inbound what comes from
// AzureLoadBalancer, and outbound what goes to the Internet; all else is denied. Their
// priorities, 65000, 65001 and 65500, are out of the range of other rules (overview
// document).
func DefaultRules(d Direction) []SecurityRule {
	rule := func(name string, priority int, access Access, source, destination string) SecurityRule {
		return SecurityRule{
			Name: name, Priority: priority, Direction: d, Access: access,
			SourceAddressPrefixes: []string{source}, DestinationAddressPrefixes: []string{destination},
			SourcePortRanges: []string{everything}, DestinationPortRanges: []string{everything},
		}
	}
	if d == Inbound {
		return []SecurityRule{
			rule("AllowVNetInBound", 65000, Allow, TagVirtualNetwork, TagVirtualNetwork),
			rule("AllowAzureLoadBalancerInBound", 65001, Allow, TagAzureLoadBalancer, everything),
			rule("DenyAllInbound", 65500, Deny, everything, everything),
		}
	}
	return []SecurityRule{
		rule("AllowVnetOutBound", 65000, Allow, TagVirtualNetwork, TagVirtualNetwork),
		rule("AllowInternetOutBound", 65001, Allow, everything, TagInternet),
		rule("DenyAllOutBound", 65500, Deny, everything, everything),
	}
}

// platformRule is what allows flows to the platform that no rule with a tag of the
// platform denies. No group shows it.
var platformRule = SecurityRule{
	Name: platformTag, Direction: Outbound, Access: Allow,
	SourceAddressPrefixes: []string{everything}, DestinationAddressPrefixes: []string{platformTag},
	SourcePortRanges: []string{everything}, DestinationPortRanges: []string{everything},
}

// tags maps the names of service tags to their prefixes. Internet has none: it is what
// others leave.
type tags map[string][]netip.Prefix

func (c *Config) tags() tags {
	t := tags{
		TagVirtualNetwork:    append(slices.Clone(c.VirtualNetwork), hostAddr),
		TagAzureLoadBalancer: {hostAddr, probesOfIPv6},
		TagInternet:          nil,
		TagAzurePlatformDNS:  {hostAddr},
		TagAzurePlatformIMDS: {metadataAddr},
		platformTag:          platformAddrs,
	}
	for _, s := range c.ServiceTags {
		if !builtIn(s.Name) {
			t[s.Name] = s.Prefixes
		}
	}
	return t
}

// builtIn reports whether a name is that of a tag built in.
func builtIn(name string) bool {
	switch name {
	case TagVirtualNetwork, TagAzureLoadBalancer, TagInternet, TagAzurePlatformDNS, TagAzurePlatformIMDS, platformTag:
		return true
	}
	return false
}

// notInternet returns the prefixes that the tag Internet leaves out.
func (t tags) notInternet() []netip.Prefix {
	return append(slices.Clone(t[TagVirtualNetwork]), metadataAddr, probesOfIPv6)
}

// reachesPlatform reports whether an outbound rule with this destination acts on what is
// sent to the platform.
func reachesPlatform(destination string) bool { return strings.HasPrefix(destination, platformTag) }
