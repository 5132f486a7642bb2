// Package turns lets long computations give way, so that those who carry packets need not wait
// for the end of one where there are fewer processors than goroutines. Nobody may give way who
// holds a lock that packets wait for, other than that of changes among each other, which a packet
// takes only where a grace is over.
package turns

import "runtime"

// every is after how many steps of a computation others have their turn: about a tenth of a
// millisecond, where a step is what is done for one instance.
const every = 64

// Step lets others have their turn after some of the steps that are counted from 0. It costs next
// to nothing for the rest, and no memory.
func Step(i int) {
	if i%every == every-1 {
		runtime.Gosched()
	}
}
