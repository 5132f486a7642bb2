package destinations

// Sketch counts flows by the hash of their scope, which costs the same memory however many
// scopes there are.
type Sketch struct {
	counts []uint32 // sketchSize of them, or none before the first flow
	total  uint32
}

// sketchSize is the counts of a sketch, named by the first 10 bits of a hash.
const sketchSize = 1024

// Add counts a flow with a scope of that hash.
func (k *Sketch) Add(hash uint64) {
	if k.counts == nil {
		k.counts = make([]uint32, sketchSize)
	}
	k.counts[hash>>54]++
	k.total++
}

// Drop is the inverse of Add.
func (k *Sketch) Drop(hash uint64) {
	k.counts[hash>>54]--
	k.total--
}

// Heavy reports whether a scope may have many flows: 256 at least, and four times the
// mean. Some that have few are heavy too.
func (k *Sketch) Heavy(hash uint64) bool { return k.counts[hash>>54] >= 256+k.total/256 }

// Total returns how many flows are counted.
func (k *Sketch) Total() int { return int(k.total) }

// Bytes returns the memory that the counts take.
func (k *Sketch) Bytes() int { return 4 * len(k.counts) }
