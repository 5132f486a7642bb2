// Package podtable says which pod has which address of its node's block.
//
// A [Table] has no lock: its owner guards it. [Bits] say of one block which addresses pods
// have; packets read them without a lock, while the owner of the table writes.
package podtable

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

// Place is an address: the node whose block it is in, and the offset there.
type Place struct{ Node, Offset int }

// Table is the pods of all nodes.
type Table struct {
	byName map[string]Place
	blocks []block // by index of the node
}

// block is the pods of one node.
type block struct {
	names []string // by offset less addressing.FirstPodOffset, "" is free; as long as needed
	n     int      // pods
	next  int      // where to look for a free address first

	cordoned bool // takes no further pods
}

// New returns a table of some nodes without pods.
func New(nodes int) Table {
	return Table{byName: make(map[string]Place), blocks: make([]block, nodes)}
}

// Grow makes room for that many nodes.
func (t *Table) Grow(nodes int) {
	for len(t.blocks) < nodes {
		t.blocks = append(t.blocks, block{})
	}
}

// Len returns how many pods there are.
func (t *Table) Len() int { return len(t.byName) }

// Count returns how many pods a node has.
func (t *Table) Count(node int) int { return t.blocks[node].n }

// Cordoned reports whether a node takes no further pods. That is the caller's to respect.
func (t *Table) Cordoned(node int) bool { return t.blocks[node].cordoned }

// Cordon makes a node take no further pods, or take them again.
func (t *Table) Cordon(node int, cordoned bool) { t.blocks[node].cordoned = cordoned }

// Of returns the place of the pod of a name.
func (t *Table) Of(name string) (Place, bool) {
	at, ok := t.byName[name]
	return at, ok
}

// At returns the name of the pod at an offset of a node's block, or "".
func (t *Table) At(node int, offset uint64) string {
	names := t.blocks[node].names
	if i := offset - addressing.FirstPodOffset; offset >= addressing.FirstPodOffset && i < uint64(len(names)) {
		return names[i]
	}
	return ""
}

// Names returns the names of a node's pods by offset less [addressing.FirstPodOffset]; ""
// is a free one.
func (t *Table) Names(node int) []string { return slices.Clone(t.blocks[node].names) }

// Add puts a pod, which is new, at the next free offset after the one given last, so that an
// address rests as long as possible before it is used again. The node has room for so many, and
// must have one free.
func (t *Table) Add(node int, name string, room int) Place {
	b := &t.blocks[node]
	for i := range room {
		at := (b.next + i) % room
		if at >= len(b.names) {
			b.names = append(b.names, make([]string, at+1-len(b.names))...)
		}
		if b.names[at] == "" {
			b.names[at] = name
			b.next = at + 1
			b.n++
			t.byName[name] = Place{node, addressing.FirstPodOffset + at}
			return t.byName[name]
		}
	}
	panic(fmt.Sprintf("overlay: no free address among %d pods", b.n)) // a node's MaxPods is not larger than room
}

// Remove takes out the pod of a name, which there is, and returns where it was.
func (t *Table) Remove(name string) Place {
	at := t.byName[name]
	delete(t.byName, name)
	b := &t.blocks[at.Node]
	b.names[at.Offset-addressing.FirstPodOffset] = ""
	b.n--
	return at
}

// Clear takes out all pods of a node that goes, and returns their names.
func (t *Table) Clear(node int) (names []string) {
	for _, name := range t.blocks[node].names {
		if name != "" {
			delete(t.byName, name)
			names = append(names, name)
		}
	}
	t.blocks[node] = block{}
	return names
}

// bitWords is the size of a bitmap over the first 256 addresses of a block.
const bitWords = 256 / 64

// Bits has a bit per offset of a pod block, set while a pod has the address.
type Bits [bitWords]atomic.Uint64

// Set sets or clears the bit of an offset.
func (b *Bits) Set(offset int, on bool) {
	if bit := uint64(1) << (offset % 64); on {
		b[offset/64].Or(bit)
	} else {
		b[offset/64].And(^bit)
	}
}

// Has reports whether the bit of an offset is set.
func (b *Bits) Has(offset uint64) bool {
	return offset < 64*bitWords && b[offset/64].Load()>>(offset%64)&1 != 0
}
