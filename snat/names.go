package snat

import "fmt"

// The names of the values that a Config is made of, as %v shows them in errors,
// logs and reports: those of the constants.
var (
	protocolNames    = [...]string{"All", "TCP", "UDP", "Query"}
	routeActionNames = [...]string{"Translate", "NodeAddress", "PassThrough", "Blackhole"}
	mappingNames     = [...]string{
		"DefaultMapping", "EndpointIndependent", "AddressDependent", "AddressAndPortDependent", "PerConnection",
	}
	filteringNames = [...]string{
		"DefaultFiltering", "EndpointIndependentFiltering", "AddressDependentFiltering", "AddressAndPortDependentFiltering", "PerConnectionFiltering",
	}
	portShareNames    = [...]string{"DefaultShare", "SharePerAddress", "SharePerDestination", "ShareNever"}
	portChoiceNames   = [...]string{"DefaultPort", "LowestPort", "RandomPort", "PreservePort"}
	portClassNames    = [...]string{"AnyClass", "PreferClass", "RequireClass"}
	poolingNames      = [...]string{"InOrder", "Paired", "PairedSoft", "Arbitrary"}
	fragmentModeNames = [...]string{"FragmentsDropped", "FragmentsVirtual", "FragmentsUDP", "FragmentsForwarded"}
	ttlModeNames      = [...]string{"TTLTransparent", "TTLRouter"}
	refusalNames      = [...]string{"RefuseSilently", "RefuseHostUnreachable", "RefuseProhibited"}
	resetUnknownNames = [...]string{"ResetNone", "ResetInside", "ResetSender"}
	udpRefreshNames   = [...]string{"RefreshEither", "RefreshPerDirection", "RefreshOutbound"}
)

// One name per constant: a list that is too short or too long does not compile.
var (
	_ = [1]struct{}{}[len(protocolNames)-int(numProtocolValues)]
	_ = [1]struct{}{}[len(routeActionNames)-int(numRouteActions)]
	_ = [1]struct{}{}[len(mappingNames)-int(numMappings)]
	_ = [1]struct{}{}[len(filteringNames)-int(numFilterings)]
	_ = [1]struct{}{}[len(portShareNames)-int(numPortShares)]
	_ = [1]struct{}{}[len(portChoiceNames)-int(numPortChoices)]
	_ = [1]struct{}{}[len(portClassNames)-int(numPortClasses)]
	_ = [1]struct{}{}[len(poolingNames)-int(numPoolings)]
	_ = [1]struct{}{}[len(fragmentModeNames)-int(numFragmentModes)]
	_ = [1]struct{}{}[len(ttlModeNames)-int(numTTLModes)]
	_ = [1]struct{}{}[len(refusalNames)-int(numRefusals)]
	_ = [1]struct{}{}[len(resetUnknownNames)-int(numResetUnknowns)]
	_ = [1]struct{}{}[len(udpRefreshNames)-int(numUDPRefreshes)]
)

// name returns the name of the i-th constant of a type.
func name(kind string, i uint8, names []string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}

// String returns the name of the constant, or "Protocol(n)".
func (p Protocol) String() string { return name("Protocol", uint8(p), protocolNames[:]) }

// String returns the name of the constant, or "RouteAction(n)".
func (a RouteAction) String() string { return name("RouteAction", uint8(a), routeActionNames[:]) }

// String returns the name of the constant, or "Mapping(n)".
func (m Mapping) String() string { return name("Mapping", uint8(m), mappingNames[:]) }

// String returns the name of the constant, or "Filtering(n)".
func (f Filtering) String() string { return name("Filtering", uint8(f), filteringNames[:]) }

// String returns the name of the constant, or "PortShare(n)".
func (s PortShare) String() string { return name("PortShare", uint8(s), portShareNames[:]) }

// String returns the name of the constant, or "PortChoice(n)".
func (c PortChoice) String() string { return name("PortChoice", uint8(c), portChoiceNames[:]) }

// String returns the name of the constant, or "PortClass(n)".
func (c PortClass) String() string { return name("PortClass", uint8(c), portClassNames[:]) }

// String returns the name of the constant, or "Pooling(n)".
func (p Pooling) String() string { return name("Pooling", uint8(p), poolingNames[:]) }

// String returns the name of the constant, or "FragmentMode(n)".
func (m FragmentMode) String() string { return name("FragmentMode", uint8(m), fragmentModeNames[:]) }

// String returns the name of the constant, or "TTLMode(n)".
func (m TTLMode) String() string { return name("TTLMode", uint8(m), ttlModeNames[:]) }

// String returns the name of the constant, or "Refusal(n)".
func (r Refusal) String() string { return name("Refusal", uint8(r), refusalNames[:]) }

// String returns the name of the constant, or "ResetUnknown(n)".
func (r ResetUnknown) String() string { return name("ResetUnknown", uint8(r), resetUnknownNames[:]) }

// String returns the name of the constant, or "UDPRefresh(n)".
func (r UDPRefresh) String() string { return name("UDPRefresh", uint8(r), udpRefreshNames[:]) }
