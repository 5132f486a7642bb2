//go:build !amd64 && !arm64

package slab

import "unsafe"

// Prefetch does nothing on this architecture.
func Prefetch(unsafe.Pointer) {}

// PrefetchEach does nothing on this architecture.
func PrefetchEach([]unsafe.Pointer) {}
