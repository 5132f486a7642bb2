// Package ipfix writes the events of a translator as data records of IPFIX (RFC 7011),
// with the information elements, and in the order, of RFC 8158's templates.
//
// A [snat.Event] has a template, which is a list of [Field], and a record
// with the values of these fields; events of the same template have records of the same
// length. Message and set headers, the numbers of templates, and transport are the
// exporter's business. The package holds no state, and its functions may be called
// within [snat.Hooks].Event, by several goroutines at once.
package ipfix

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/snat"
)

// Field is a field of an IPFIX template: an information element of IANA's
// registry and its length in bytes.
type Field struct {
	ID, Length uint16 // of the element; bytes
}

// Information elements (IANA IPFIX registry).
const (
	ieProtocol            = 4
	ieSourcePort          = 7
	ieSourceIPv4          = 8
	ieDestinationPort     = 11
	ieDestinationIPv4     = 12
	ieSourceIPv6          = 27
	ieDestinationIPv6     = 28
	iePostSourceIPv4      = 225
	iePostDestinationIPv4 = 226
	iePostSourcePort      = 227
	iePostDestinationPort = 228
	ieOriginatingRealm    = 229 // natOriginatingAddressRealm: 1 inside, 2 outside
	ieNATEvent            = 230
	ieIngressVRF          = 234 // ingressVRFID
	iePostSourceIPv6      = 281
	iePostDestinationIPv6 = 282
	ieNATPool             = 283
	ieMilliseconds        = 323
	iePortRangeStart      = 361
	iePortRangeEnd        = 362
	ieQuotaExceeded       = 466
	ieMaxSessions         = 471 // and 472..474 for the other quotas, in their order
)

// AppendTemplate appends the fields of e's data record. They depend on its kind,
// quota, address family, and on whether it has a remote.
func AppendTemplate(fields []Field, e *snat.Event) []Field {
	x := record{fields: fields}
	x.event(e)
	return x.fields
}

// AppendRecord appends e's data record, 27 bytes for an IPv4 session without
// remote. A [snat.EventParameters] has none, and appends nothing.
func AppendRecord(b []byte, e *snat.Event) []byte {
	x := record{data: b}
	x.event(e)
	return x.data
}

// record is a data record in the making, and its template.
type record struct {
	fields []Field
	data   []byte
}

func (x *record) event(e *snat.Event) {
	if e.Kind == snat.EventParameters {
		return
	}
	x.number(ieMilliseconds, 8, uint64(e.At.Duration().Milliseconds()))
	x.number(ieNATEvent, 1, uint64(e.Kind))
	switch e.Kind {
	case snat.EventAddressesExhausted:
		x.number(ieNATPool, 4, uint64(e.Instance))
	case snat.EventPortsExhausted:
		x.addr(iePostSourceIPv4, iePostSourceIPv6, e.Outside.Addr())
		x.number(ieProtocol, 1, uint64(e.Proto))
	case snat.EventQuotaExceeded:
		x.number(ieQuotaExceeded, 4, uint64(e.Quota))
		x.number(ieMaxSessions+uint16(e.Quota-snat.QuotaSessions), 4, uint64(e.Limit))
		if e.Quota == snat.QuotaPerUser {
			x.addr(ieSourceIPv4, ieSourceIPv6, e.Inside.Addr())
		}
	default:
		x.addr(ieSourceIPv4, ieSourceIPv6, e.Inside.Addr())
		x.addr(iePostSourceIPv4, iePostSourceIPv6, e.Outside.Addr())
	}
	switch e.Kind {
	case snat.EventSessionCreate, snat.EventSessionDelete, snat.EventBindingCreate, snat.EventBindingDelete:
		x.number(ieProtocol, 1, uint64(e.Proto))
		x.number(ieSourcePort, 2, uint64(e.Inside.Port()))
		x.number(iePostSourcePort, 2, uint64(e.Outside.Port()))
	case snat.EventBlockCreate, snat.EventBlockDelete:
		x.number(iePortRangeStart, 2, uint64(e.Ports.First))
		x.number(iePortRangeEnd, 2, uint64(e.Ports.Last))
	}
	if e.Remote.IsValid() { // the same before and after: only sources are translated
		x.addr(ieDestinationIPv4, ieDestinationIPv6, e.Remote.Addr())
		x.addr(iePostDestinationIPv4, iePostDestinationIPv6, e.Remote.Addr())
		x.number(ieDestinationPort, 2, uint64(e.Remote.Port()))
		x.number(iePostDestinationPort, 2, uint64(e.Remote.Port()))
	}
	switch e.Kind {
	case snat.EventSessionCreate, snat.EventSessionDelete, snat.EventBindingCreate, snat.EventBindingDelete:
		x.number(ieOriginatingRealm, 1, 1+uint64(e.Origin))
	}
	switch {
	case e.Kind == snat.EventPortsExhausted || e.Kind == snat.EventAddressesExhausted || e.Kind == snat.EventQuotaExceeded && e.Quota != snat.QuotaPerUser:
	default:
		x.number(ieIngressVRF, 4, uint64(e.Realm))
	}
}

// number appends an unsigned value.
func (x *record) number(id, length uint16, v uint64) {
	x.fields = append(x.fields, Field{id, length})
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	x.data = append(x.data, b[8-length:]...)
}

// addr appends an address, as the element of its family.
func (x *record) addr(id4, id6 uint16, a netip.Addr) {
	id := id4
	if a.Is6() {
		id = id6
	}
	x.fields = append(x.fields, Field{id, uint16(a.BitLen() / 8)})
	x.data = append(x.data, a.AsSlice()...)
}
