package addresses

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Action says what happens to new flows towards a destination.
type Action uint8

// The actions.
const (
	Translate   Action = iota // to a port of a frontend
	NodeAddress               // to the instance's own address
	PassThrough               // nothing
	Blackhole                 // dropped
)

// Row is a row of the destination table. First 0 is all ports, and Last 0 First alone;
// Proto 0 is any protocol.
type Row struct {
	prefixes.Row
	Action   Action
	BothWays bool // it is about flows that begin outside too
	PassOn   bool // with PassThrough: somebody else asks about them
}

// Effect is what a row means for what it is for.
type Effect struct {
	Action   Action
	BothWays bool
	PassOn   bool
	AnyPort  bool // it is for all ports, and for no ports too
}

// Destinations is the destination table. Without a row a flow is translated.
type Destinations struct {
	table    *prefixes.Table
	effects  []Effect
	bothWays bool // of some row
}

// NewDestinations returns a table of rows: of those with the same prefix those that are
// narrower come first. Cost: O(n log n).
func NewDestinations(rows []Row) Destinations {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(b.precedence(), a.precedence()) })
	table, effects, bothWays := make([]prefixes.Row, len(rows)), make([]Effect, len(rows)), false
	for i, r := range rows {
		effects[i] = Effect{r.Action, r.BothWays, r.PassOn, r.First == 0}
		bothWays = bothWays || r.BothWays
		switch table[i] = r.Row; {
		case r.First == 0:
			table[i].Last = 65535
		case r.Last == 0:
			table[i].Last = r.First
		}
	}
	return Destinations{prefixes.New(table), effects, bothWays}
}

// precedence orders rows with the same prefix: the higher comes first.
func (r *Row) precedence() (n int) {
	if r.First != 0 {
		n += 2
	}
	if r.Proto != 0 {
		n++
	}
	return n
}

// translated is the effect for destinations without a row.
var translated = Effect{Action: Translate}

// BothWays reports whether any row works both ways.
func (d *Destinations) BothWays() bool { return d.bothWays }

// Effect returns what the row for a tuple's destination and a port means. A port below 0
// is not known and fits all rows.
func (d *Destinations) Effect(t *ports.Tuple, port int32) *Effect {
	if len(d.effects) == 0 {
		return &translated
	}
	addr := prefixes.Addr(t.Remote)
	if t.Family == 0 {
		addr = prefixes.V4(uint32(t.Remote[0]))
	}
	if i := d.table.Match(t.Family == 1, addr, t.Proto, port); i >= 0 {
		return &d.effects[i]
	}
	return &translated
}

// To returns what happens to a new flow towards its destination.
func (d *Destinations) To(t *ports.Tuple) Action { return d.Effect(t, int32(t.DestPort)).Action }

// ToRemote is To for flows of a protocol to a remote.
func (d *Destinations) ToRemote(proto uint8, remote netip.AddrPort) Action {
	t := ports.Tuple{Proto: proto, DestPort: remote.Port()}
	switch a := remote.Addr().Unmap(); {
	case a.Is4():
		t.Remote[0] = uint64(flow.Addr4(a))
	case a.Is6():
		t.Family, t.Remote = 1, flow.Addr6(a)
	default:
		return Translate
	}
	return d.To(&t)
}
