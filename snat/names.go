package snat

import "fmt"

// The names of the values that a Config is made of, as %v shows them in errors,
// logs and reports: those of the constants.

// name returns the name of the i-th constant of a type.
func name(kind string, i uint8, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}

// String returns the name of the constant, or "Protocol(n)".
func (p Protocol) String() string {
	return name("Protocol", uint8(p), "All", "TCP", "UDP", "Query")
}

// String returns the name of the constant, or "RouteAction(n)".
func (a RouteAction) String() string {
	return name("RouteAction", uint8(a), "Translate", "NodeAddress", "PassThrough", "Blackhole")
}

// String returns the name of the constant, or "Mapping(n)".
func (m Mapping) String() string {
	return name("Mapping", uint8(m),
		"DefaultMapping", "EndpointIndependent", "AddressDependent", "AddressAndPortDependent", "PerConnection")
}

// String returns the name of the constant, or "Filtering(n)".
func (f Filtering) String() string {
	return name("Filtering", uint8(f),
		"DefaultFiltering", "EndpointIndependentFiltering", "AddressDependentFiltering", "AddressAndPortDependentFiltering", "PerConnectionFiltering")
}

// String returns the name of the constant, or "PortShare(n)".
func (s PortShare) String() string {
	return name("PortShare", uint8(s), "DefaultShare", "SharePerAddress", "SharePerDestination", "ShareNever")
}

// String returns the name of the constant, or "PortChoice(n)".
func (c PortChoice) String() string {
	return name("PortChoice", uint8(c), "DefaultPort", "LowestPort", "RandomPort", "PreservePort")
}

// String returns the name of the constant, or "PortClass(n)".
func (c PortClass) String() string {
	return name("PortClass", uint8(c), "AnyClass", "PreferClass", "RequireClass")
}

// String returns the name of the constant, or "Pooling(n)".
func (p Pooling) String() string {
	return name("Pooling", uint8(p), "InOrder", "Paired", "PairedSoft", "Arbitrary")
}

// String returns the name of the constant, or "FragmentMode(n)".
func (m FragmentMode) String() string {
	return name("FragmentMode", uint8(m), "FragmentsDropped", "FragmentsVirtual")
}

// String returns the name of the constant, or "TTLMode(n)".
func (m TTLMode) String() string {
	return name("TTLMode", uint8(m), "TTLTransparent", "TTLRouter")
}

// String returns the name of the constant, or "Refusal(n)".
func (r Refusal) String() string {
	return name("Refusal", uint8(r), "RefuseSilently", "RefuseHostUnreachable", "RefuseProhibited")
}

// String returns the name of the constant, or "ResetUnknown(n)".
func (r ResetUnknown) String() string {
	return name("ResetUnknown", uint8(r), "ResetNone", "ResetInside", "ResetSender")
}

// String returns the name of the constant, or "UDPRefresh(n)".
func (r UDPRefresh) String() string {
	return name("UDPRefresh", uint8(r), "RefreshEither", "RefreshPerDirection", "RefreshOutbound")
}
