package slab

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// Lines are forgotten once they are loaded, and there may be 64.
func TestLines(t *testing.T) {
	var l Lines
	var records [64]struct{ words [8]uint64 }
	for range 2 {
		for i := range records {
			AddLine(&l, &records[i])
			assert.Equal(t, unsafe.Pointer(&records[i]), l.ps[i])
		}
		assert.Panics(t, func() { AddLine(&l, &records[0]) })
		l.Prefetch()
		assert.Zero(t, l.n)
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		AddLine(&l, &records[0])
		l.Prefetch()
	}))
}
