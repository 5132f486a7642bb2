// Which node a pod moves to.

package upgrade

// places are the nodes that pods can move to.
type places struct{ runs, room []int }

// newPlaces returns n nodes, of each of which is said how many pods it runs and how many it may.
func newPlaces(n int, of func(i int) (runs, room int)) *places {
	p := &places{make([]int, n), make([]int, n)}
	for i := range n {
		p.runs[i], p.room[i] = of(i)
	}
	return p
}

// fill starts a pod on the node that runs fewest, the first of them, and reports whether it
// could: whether there was room, and start has succeeded.
func (p *places) fill(start func(i int) bool) bool {
	at := -1
	for i, n := range p.runs {
		if n < p.room[i] && (at < 0 || n < p.runs[at]) {
			at = i
		}
	}
	if at < 0 || !start(at) {
		return false
	}
	p.runs[at]++
	return true
}
