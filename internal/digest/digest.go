// Package digest folds what a run does into one number, so that "the same seed, the
// same bytes" is a comparison of two numbers.
//
// A digest covers, in order: each packet that a door was given, its time, side and
// verdict, and the bytes it became, or if it was dropped, the code of the reason, for
// its bytes mean nothing then; each packet that was emitted; and each event that was noted. Two
// runs of the same digest did the same, but for collisions of 64 bits (xxHash, which
// is no defence against somebody who looks for them).
//
// The package is for tests and examples. It is not safe for concurrent use, because
// the order of what happens matters.
package digest

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Digest is the digest of a run as far as it has come. The zero value is not ready;
// see [New].
type Digest struct {
	hash    *xxhash.Digest
	scratch []byte
}

// New returns the digest of a run in which nothing has happened yet.
func New() *Digest { return &Digest{hash: xxhash.New()} }

// What a record is about: its first byte.
const (
	packetRecord = iota
	emissionRecord
	noteRecord
)

// record folds one record: its kind, numbers, and bytes with their length in front,
// so that no two sequences of records have the same form.
func (d *Digest) record(kind byte, bytes []byte, numbers ...uint64) {
	d.scratch = append(d.scratch[:0], kind)
	for _, n := range numbers {
		d.scratch = binary.BigEndian.AppendUint64(d.scratch, n)
	}
	d.scratch = binary.BigEndian.AppendUint64(d.scratch, uint64(len(bytes)))
	d.hash.Write(d.scratch)
	d.hash.Write(bytes)
}

// Packet folds what became of a packet that came from a side: pkt as the door left it.
func (d *Digest) Packet(now flow.Time, from flow.Side, v flow.Verdict, pkt []byte) {
	length := len(pkt)
	if v.Action == flow.Drop {
		pkt = []byte(v.Reason.String())
	}
	created := uint64(0)
	if v.New {
		created = 1
	}
	d.record(packetRecord, pkt, uint64(now), uint64(from), uint64(length),
		uint64(v.Action), uint64(v.To), created, uint64(v.Instance))
}

// Emission folds a packet that left by itself.
func (d *Digest) Emission(e flow.Emission) {
	d.record(emissionRecord, e.Packet, uint64(e.At), uint64(e.To), uint64(e.Instance))
}

// Note folds anything else, such as an event, as fmt.Sprintf formats it.
func (d *Digest) Note(format string, args ...any) {
	d.record(noteRecord, fmt.Appendf(nil, format, args...))
}

// Sum64 returns the number. More may be folded after it.
func (d *Digest) Sum64() uint64 { return d.hash.Sum64() }

// String returns the number as 16 hexadecimal digits.
func (d *Digest) String() string { return fmt.Sprintf("%016x", d.Sum64()) }
