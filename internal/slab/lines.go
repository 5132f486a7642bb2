package slab

import "unsafe"

// Lines are records whose cache lines are to be loaded, up to 64; the zero Lines has none.
type Lines struct {
	n  int
	ps [64]unsafe.Pointer
}

// AddLine adds the line that a record begins in. It panics if there are 64.
func AddLine[T any](l *Lines, record *T) {
	l.ps[l.n] = unsafe.Pointer(record)
	l.n++
}

// Prefetch is PrefetchEach for the lines, which it forgets.
func (l *Lines) Prefetch() {
	PrefetchEach(l.ps[:l.n])
	l.n = 0
}
