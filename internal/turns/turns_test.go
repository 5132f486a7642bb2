package turns

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// Others have their turn between the steps, on one processor, too.
func TestOthersHaveTheirTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var others atomic.Int32
	var stop atomic.Bool
	stopped := make(chan bool)
	go func() {
		for !stop.Load() {
			others.Add(1)
			runtime.Gosched()
		}
		close(stopped)
	}()
	for i := range 10 * every {
		Step(i)
	}
	if n := others.Load(); n < 5 {
		t.Errorf("others had %d turns", n)
	}
	stop.Store(true)
	<-stopped
}
