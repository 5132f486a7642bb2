package destinations

import (
	"github.com/seed-a61be3fe/natplane/internal/bitmap"
)

// The records of destinations on frontends whose ports all instances share. There, Taken
// is the number of flows, and the bitmap (all ports of the frontend, or none) has a set
// bit only for ports in use; a clear one means free or not known.

// On returns the scope of a destination on a frontend whose ports all share.
func (s Scope) On(frontend int) *Scope {
	s.Instance = uint32(frontend)
	return &s
}

// Flows returns the number of flows with a scope.
func (t *Table) Flows(s *Scope) uint32 {
	if d := t.Record(s); d != nil {
		return d.Taken
	}
	return 0
}

// Add counts a flow with a scope, on one of so many ports, if there is memory.
func (t *Table) Add(s *Scope, ports, port int) bool {
	id := t.seek(s)
	if id == 0 {
		if id = t.begin(s, 0); id == 0 {
			return false
		}
	}
	d := t.slab.At(id)
	d.Taken++
	if d.bits != 0 {
		bitmap.Set(t.runs.Words(d.bits), ports, port)
	}
	return true
}

// Drop is the inverse of Add.
func (t *Table) Drop(s *Scope, ports, port int) {
	id := t.seek(s)
	d := t.slab.At(id)
	if d.Taken--; d.Taken == 0 {
		t.end(id)
	} else if d.bits != 0 {
		bitmap.Clear(t.runs.Words(d.bits), ports, port)
	}
}

// Bitmap returns the bitmap of a record of flows on one of so many ports, which it gives
// it if it has none yet. It returns nil for want of memory.
func (t *Table) Bitmap(d *Record, ports int) []uint64 {
	if d.bits == 0 {
		if d.bits = t.alloc(bitmap.Words(ports)); d.bits == 0 {
			return nil
		}
	}
	return t.runs.Words(d.bits)
}
