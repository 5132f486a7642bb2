package flow

// Kind is what becomes of the packets of a session. A translator decides it when the
// session begins, and it stays so. It is for those who drive a translator, by
// [Info].Kind, as much as for the translator itself: neither has to guess from
// addresses.
//
// Package snat makes sessions of all kinds. Those of [Table.Observe] are KindTracked.
type Kind uint8

// The kinds. The zero value is that of a session nobody translates.
const (
	KindTracked    Kind = iota // not translated, only remembered
	KindTranslated             // TCP or UDP; the outside port is one of a frontend's
	KindQuery                  // ICMP; the outside port is an identifier at a frontend
	KindNode                   // the outside address is the instance's own, the port the node's
	KindPublic                 // the outside address is the instance's public one, the port the node's
	KindForwarded              // begun outside and sent on to the inside by a forward of a frontend's port
	numSessionKinds
)

// The names fill their array exactly, so a kind without one does not compile.
var kindNames = [...]string{
	KindTracked: "tracked", KindTranslated: "translated", KindQuery: "query",
	KindNode: "node", KindPublic: "public", KindForwarded: "forwarded",
}

var _ = [1]struct{}{}[len(kindNames)-int(numSessionKinds)]

// String returns the name of the kind, such as "translated", and "kind(?)" for what is
// none.
func (k Kind) String() string {
	if k < numSessionKinds {
		return kindNames[k]
	}
	return "kind(?)"
}

// HoldsPort reports whether a session of the kind has a port, or an identifier, that
// was handed out to it and is free again when it ends.
func (k Kind) HoldsPort() bool { return k == KindTranslated || k == KindQuery }

// The kind of a session is kept in a link of its record that has bits to spare.
const (
	kindShift    = 28
	kindMask  ID = 7 << kindShift

	_ = uint(kindMask>>kindShift - ID(numSessionKinds)) // does not compile if a kind does not fit
)

// Kind returns what becomes of the session's packets.
func (s *Session) Kind() Kind { return Kind(s.prev & kindMask >> kindShift) }

// SetKind says what becomes of the session's packets. It is for the owner of the table,
// before Insert.
func (s *Session) SetKind(k Kind) { s.prev = s.prev&^kindMask | ID(k)<<kindShift }
