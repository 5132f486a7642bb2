// What a row of the register says, and all of them in order.

package conformance

import "slices"

// Row is one demand.
type Row struct {
	ID     string // as in the names of its tests
	Source string // where it is from: RFC and section or requirement
	Level  Level  // how strongly it is demanded there
	Fit    Fit    // what we make of it
	Text   string // the demand, in one sentence
	Why    string // why a product differs, or why we leave it out; empty otherwise
}

// Level is how strongly a demand is made.
type Level string

// The levels, RFC 2119's first.
const (
	Must      Level = "MUST"
	MustNot   Level = "MUST NOT"
	Should    Level = "SHOULD"
	ShouldNot Level = "SHOULD NOT"
	May       Level = "MAY"
	Rule      Level = "rule" // follows from a protocol's definition
	Ours      Level = "ours" // demanded by us, as a measure of quality
)

// Fit is what the library makes of a demand.
type Fit string

// The fits.
const (
	All        Fit = "all"      // every configuration meets it
	Option     Fit = "option"   // configurations that ask for it meet it
	Deviates   Fit = "azure"    // a preset of Azure differs on purpose, others can meet it
	Partly     Fit = "partly"   // a part of it is not modelled; of rows of Azure only
	OutOfScope Fit = "left out" // nothing here does this
)

// Register returns all rows, grouped by subject.
func Register() []Group {
	return slices.Clone(register)
}

// Group is the rows of one subject, which share the letter of their IDs.
type Group struct {
	Title string // the subject, and the RFCs about it
	Rows  []Row  // in the order of their IDs
}

var register = []Group{
	{"UDP (RFC 4787)", udpRows},
	{"TCP (RFC 5382)", tcpRows},
	{"ICMP (RFC 5508)", icmpRows},
	{"Updates (RFC 7857)", updateRows},
	{"Carrier-grade NAT (RFC 6888)", carrierRows},
	{"NAT64 (RFC 6146)", nat64Rows},
	{"Headers (RFC 3022, 6864, 1812, 8200)", headerRows},
	{"Deterministic mapping (RFC 7422)", deterministicRows},
	{"Logs (RFC 8158)", logRows},
	{"Ports (RFC 6056)", portRows},
	{"The TCP tracker (RFC 7857, 9293, 5961)", trackerRows},
	{"Generated resets (RFC 9293, 5961)", resetRows},
	{"ICMP messages (RFC 792, 4443, 4884, 1812)", messageRows},
	{"Fragments (RFC 4787, 6864, 8200, 5722, 6946)", fragmentRows},
	{"Extension headers (RFC 8200)", extensionRows},
	{"Malformed and hostile packets", hostileRows},
	{"Checksum vectors (RFC 1624)", checksumRows},
}
