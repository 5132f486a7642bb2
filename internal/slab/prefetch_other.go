//go:build !amd64 && !arm64

package slab

import "unsafe"

// PrefetchEach does nothing on this architecture.
func PrefetchEach([]unsafe.Pointer) {}
