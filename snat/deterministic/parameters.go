// Package deterministic computes who has which port (RFC 7422): every inside address has
// ports of its own that follow from a few parameters, so that who used a port is
// computed instead of logged. What is left over is the dynamic range, of which ports are
// granted in blocks, and logged.
//
// [New] makes a [Mapping] of [Parameters]. It answers in both directions:
// [Mapping.Outside] which ports an inside address has, [Mapping.Inside] whose a port is.
// It needs no translator; package snat, which it does not know, takes the parameters as
// snat.Instance.Deterministic.
//
// The ports of an outside address that are not reserved are numbered from 0. Its
// subscribers own the numbers below subscribers*share, in the order that the
// algorithm gives; those from there on are its dynamic range.
package deterministic

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Parameters are those of a deterministic mapping, with the letters of RFC 7422. They
// mean the same ports for ever; whoever keeps them needs no log of the ports they
// assign.
type Parameters struct {
	// Inside are the subscribers (I), all of one address family and 2^24 at
	// most, numbered in this order. Network and broadcast addresses of an IPv4
	// prefix are none, as in the RFC's example, unless it is a /31 or /32. The
	// RFC knows IPv6 only as inside of DS-Lite; that all addresses of an IPv6
	// prefix are subscribers of IPv6 outside addresses is our choice.
	Inside []netip.Prefix

	// Outside are the public addresses (O), every one of these prefixes, of the
	// family of Inside. As many subscribers as the compression ratio
	// C = subscribers / addresses, rounded up, share the first address, and so on.
	Outside []netip.Prefix

	// DynamicFactor is the number of shares (D) of each address that go to
	// nobody and make up its dynamic range; 0 leaves only the remainder of the
	// division. A share is what an address has of ports, divided by C + D.
	DynamicFactor int

	// MaxPorts is the most ports (M) a subscriber may have, dynamic ones
	// included. 0, our choice for the default, means no other limit than the
	// dynamic range. Less than a share is refused.
	MaxPorts int

	// Algorithm says which ports are a subscriber's (A).
	Algorithm Algorithm

	// Reserved are ports that are never used (R). The system ports, 0-1023,
	// always are, and need not be listed.
	Reserved []flow.PortSpan

	// Key decides the order of KeyedRandom, and has to be kept with the other
	// parameters, but secret.
	Key [32]byte
}

// Algorithm is a way to assign ports to subscribers; the numbers are those of
// RFC 7422.
type Algorithm uint8

// The algorithms. Round robin and interlaced (2 and 3), which spread one
// subscriber over several addresses and so break paired pooling, and vendors'
// own (5) are not modelled.
const (
	Sequential  Algorithm = 0 // each subscriber has consecutive ports
	Staggered   Algorithm = 1 // each subscriber has every nth port, n being the subscribers of the address
	KeyedRandom Algorithm = 4 // ports in the order of a shuffle that Key decides, the same at all addresses (RFC 7422 by way of RFC 6431)
)

// maxAddresses bounds the subscribers of a mapping, and its outside addresses.
const maxAddresses = 1 << 24

// Equal reports whether p and o are the same parameters; it may be that both are nil.
func (p *Parameters) Equal(o *Parameters) bool {
	if p == nil || o == nil {
		return p == o
	}
	return slices.Equal(p.Inside, o.Inside) && slices.Equal(p.Outside, o.Outside) && p.DynamicFactor == o.DynamicFactor &&
		p.MaxPorts == o.MaxPorts && p.Algorithm == o.Algorithm && slices.Equal(p.Reserved, o.Reserved) && p.Key == o.Key
}

// Clone returns a copy that shares no memory with p, or nil of nil.
func (p *Parameters) Clone() *Parameters {
	if p == nil {
		return nil
	}
	c := *p
	c.Inside, c.Outside, c.Reserved = slices.Clone(p.Inside), slices.Clone(p.Outside), slices.Clone(p.Reserved)
	return &c
}

// Record returns the parameters as the log entry that RFC 7422 wants whenever they
// change and once a day: time, I and O with their masks, D, M, A and R. The key is
// not part of it.
func (p Parameters) Record(at flow.Time) string {
	reserved := []flow.PortSpan{{Last: flow.SystemPorts - 1}}
	return fmt.Sprintf("%v I=%s O=%s D=%d M=%d A=%d R=%s", at, commas(p.Inside), commas(p.Outside),
		p.DynamicFactor, p.MaxPorts, p.Algorithm, commas(append(reserved, p.Reserved...)))
}

// commas joins the texts of a list.
func commas[T fmt.Stringer](list []T) string {
	var texts []string
	for _, x := range list {
		texts = append(texts, x.String())
	}
	return strings.Join(texts, ",")
}
