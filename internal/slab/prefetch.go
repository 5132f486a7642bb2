//go:build amd64 || arm64

package slab

import "unsafe"

// Prefetch asks the processor to load the cache line at p into all its caches. It never
// faults, whatever p is, and changes nothing a program can see but time. The call itself
// costs about 2 ns. Where there is no such instruction it does nothing.
//
//go:noescape
func Prefetch(p unsafe.Pointer)

// PrefetchEach is Prefetch of every element of ps, for the price of one call.
//
//go:noescape
func PrefetchEach(ps []unsafe.Pointer)
