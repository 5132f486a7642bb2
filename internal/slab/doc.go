// Package slab keeps millions of small records where the garbage collector never
// looks: in chunks cut from large mappings, named by 32-bit indexes instead of pointers.
//
//	Stock ──regions of a copy, in advance──► Memory
//	Memory ──chunks of 64 KiB──► Slab[T]  records of one size, named by index
//	                        ├──► Runs     runs of 2^k words, named by handle
//	                        └──► any other pointer-free table
//
// It knows memory and nothing else: what a record means, and when it may be freed,
// is its owner's business.
//
// Glossary: a region is one mapping, a chunk is [ChunkSize] bytes of a region, a record
// is one T of a [Slab], a run is a power-of-two number of words of a [Runs].
//
// Nothing here is safe for concurrent use: one shard, one Memory, one lock.
//
// A pointer or slice into a chunk does not keep its Memory alive. Hold on to the Memory, or
// to a Slab or Runs made from it, for as long as such a pointer is used.
package slab
