// Worked examples of checksum updates, each computed by several methods.

package conformance

var checksumRows = []Row{
	{"V1", "RFC 1624 section 4", Rule, All, "The example of the RFC.", ""},
	{"V2", "RFC 1624", Rule, All, "An IPv4 TTL counts down.", ""},
	{"V3", "RFC 1624", Rule, All, "An IPv4 TTL counts down where the update of RFC 1141 fails.", ""},
	{"V4", "RFC 1624", Rule, All, "An IPv4 source changes.", ""},
	{"V5", "RFC 768", Rule, All, "UDP over IPv4 with an odd payload.", ""},
	{"V6", "RFC 768", Rule, All, "UDP over IPv4 whose checksum comes to 0.", ""},
	{"V7", "RFC 768", Rule, All, "The way back from FFFF.", ""},
	{"V8", "RFC 768", Rule, All, "UDP over IPv4 without a checksum.", ""},
	{"V9", "RFC 9293", Rule, All, "A SYN with options.", ""},
	{"V10", "RFC 9293", Rule, All, "TCP whose checksum comes to 0 and stays so.", ""},
	{"V11", "RFC 8200 section 8.1", Rule, All, "UDP over IPv6.", ""},
	{"V11b", "RFC 8200 section 8.1", Rule, All, "UDP over IPv6 whose checksum comes to 0.", ""},
	{"V12", "RFC 8200 section 8.1", Rule, All, "TCP over IPv6.", ""},
	{"V13", "RFC 792", Rule, All, "An echo over IPv4, whose checksum knows no address.", ""},
	{"V14", "RFC 4443 section 2.3", Rule, All, "An echo over IPv6, whose checksum knows them.", ""},
	{"V15", "RFC 5508 REQ-4", Rule, All, "A TCP quote cut before its checksum.", ""},
	{"V16", "RFC 5508 REQ-4", Rule, All, "A whole UDP quote over IPv4.", ""},
	{"V17", "RFC 5508 REQ-4", Rule, All, "A whole UDP quote over IPv6.", ""},
	{"V19", "RFC 6296", Rule, All, "A prefix translation that needs no update.", ""},
	{"V20", "RFC 1624", Rule, All, "The corner where the update gives negative zero.", ""},
	{"V21", "RFC 1624", Rule, All, "A first fragment, without the rest.", ""},
	{"V22", "RFC 1071", Rule, All, "A sum of words.", ""},
	{"V23", "RFC 1071", Rule, All, "A header that verifies.", ""},
	{"V24", "RFC 1071", Rule, All, "Odd lengths.", ""},
}
