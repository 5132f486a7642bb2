// Package batch sends some packets of a batch through a door of their own, and brings their verdicts
// back to where the packets stand.
//
// A [Part] is one goroutine's at a time; [Get] and [Part.Put] share them between goroutines. It refuses to
// know what doors do.
package batch

import (
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Size is the number of packets that go through a door at once.
const Size = 64

// Part is some packets of a batch, on their way through a door.
type Part struct {
	pkts     [Size][]byte
	verdicts [Size]flow.Verdict
	at       [Size]int // in the batch
	n        int
}

// Door is a batch door of a translator.
type Door = func(flow.Time, [][]byte, []flow.Verdict)

var parts = sync.Pool{New: func() any { return new(Part) }}

// Get returns an empty part, to be given back with Put.
func Get() *Part { return parts.Get().(*Part) }

// Put gives back a part, which Flush has emptied.
func (p *Part) Put() { parts.Put(p) }

// Add adds packet i of a batch, and sends the part through its door when it is full.
func (p *Part) Add(i int, pkts [][]byte, verdicts []flow.Verdict, now flow.Time, door Door) {
	p.pkts[p.n], p.at[p.n] = pkts[i], i
	if p.n++; p.n == len(p.pkts) {
		p.Flush(verdicts, now, door)
	}
}

// Flush sends the packets through the door.
func (p *Part) Flush(verdicts []flow.Verdict, now flow.Time, door Door) {
	door(now, p.pkts[:p.n], p.verdicts[:p.n])
	for k, i := range p.at[:p.n] {
		verdicts[i] = p.verdicts[k]
	}
	clear(p.pkts[:p.n])
	p.n = 0
}
