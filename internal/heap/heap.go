// Package heap is a binary heap of values: no interface per element, no index kept in
// them, which is what container/heap costs.
package heap

// Heap is a binary heap: element 0 comes before all others. The zero value is empty.
// Whoever changes element 0 where it stands calls Up or Down.
type Heap[T interface{ Before(T) bool }] []T

// Push adds an element. One that comes last costs one comparison.
func (h *Heap[T]) Push(x T) {
	*h = append(*h, x)
	h.Up(len(*h) - 1)
}

// Pop removes and returns element 0.
func (h *Heap[T]) Pop() T {
	all := *h
	first, last := all[0], len(all)-1
	all[0] = all[last]
	*h = all[:last]
	h.Down()
	return first
}

// Up moves element i to where it belongs, after it has come to be earlier.
func (h Heap[T]) Up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].Before(h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// Down moves element 0 to where it belongs, after it has come to be later.
func (h Heap[T]) Down() {
	for i, child := 0, 1; child < len(h); i, child = child, 2*child+1 {
		if child+1 < len(h) && h[child+1].Before(h[child]) {
			child++
		}
		if !h[child].Before(h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
	}
}
