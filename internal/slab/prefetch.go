//go:build amd64 || arm64

package slab

import "unsafe"

// Prefetch is PrefetchEach for one line.
//
//go:noescape
func Prefetch(p unsafe.Pointer)

// PrefetchEach asks the processor to load the cache line at every element of ps into all
// its caches. It never faults, whatever the elements are, and changes nothing a program
// can see but time. The call itself costs about 2 ns. Where there is no such instruction it
// does nothing.
//
//go:noescape
func PrefetchEach(ps []unsafe.Pointer)
