package snat

// heap is a binary heap: element 0 comes before all others.
type heap[T interface{ before(T) bool }] []T

// push adds an element. One that comes last costs one comparison.
func (h *heap[T]) push(x T) {
	*h = append(*h, x)
	h.up(len(*h) - 1)
}

// pop removes and returns element 0.
func (h *heap[T]) pop() T {
	all := *h
	first, last := all[0], len(all)-1
	all[0] = all[last]
	*h = all[:last]
	h.down()
	return first
}

// up moves element i to where it belongs, after it has come to be earlier.
func (h heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// down moves element 0 to where it belongs, after it has come to be later.
func (h heap[T]) down() {
	for i, child := 0, 1; child < len(h); i, child = child, 2*child+1 {
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
	}
}
