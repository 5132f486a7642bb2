package prefixes

// Addrs4 maps single IPv4 addresses to values above 0. The zero Addrs4 is empty. Many
// goroutines may look up at once, but not while one calls Put. Cost: one cache line in
// most cases.
type Addrs4 struct{ addrs[uint32] }

// hash4 returns a hash of an IPv4 address, whose high bits are good.
func hash4(a uint32) uint64 { return uint64(a*0x9e3779b1) << 32 }

// Get returns the value of an address, or 0 if there is none. It is inlined.
func (m *Addrs4) Get(a uint32) uint32 {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint64(len(m.slots) - 1)
	for i := hash4(a) >> (m.shift & 63); ; i++ {
		s := m.slots[i&mask]
		if s.key == a || s.val == 0 {
			return s.val
		}
	}
}

// Put gives an address a value above 0, in the place of the one that it has.
func (m *Addrs4) Put(a, val uint32) { m.put(a, val, hash4) }

// Addrs6 is Addrs4 for IPv6 addresses, as two big-endian halves.
type Addrs6 struct{ addrs[[2]uint64] }

// Hash6 returns a hash of an IPv6 address, whose high bits are good. It is the same in
// every run.
func Hash6(a [2]uint64) uint64 { return HashWords6(a[0], a[1]) }

// HashWords6 is Hash6 for the two halves, which then need no memory.
func HashWords6(high, low uint64) uint64 {
	return (high*0x9e3779b97f4a7c15 ^ low) * 0xd6e8feb86659fd93
}

// Get returns the value of an address, or 0 if there is none.
func (m *Addrs6) Get(a [2]uint64) uint32 { return m.GetWords(a[0], a[1]) }

// GetWords is Get for the two halves: an array that has just been written half by half
// stalls who copies it as a whole.
func (m *Addrs6) GetWords(high, low uint64) uint32 {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint64(len(m.slots) - 1)
	for i := HashWords6(high, low) >> (m.shift & 63); ; i++ {
		s := &m.slots[i&mask]
		if s.key[1] == low && s.key[0] == high || s.val == 0 {
			return s.val
		}
	}
}

// Put gives an address a value above 0, in the place of the one that it has.
func (m *Addrs6) Put(a [2]uint64, val uint32) { m.put(a, val, Hash6) }

// addrs is a hash map with open addressing, at most half full, of addresses of either
// family. Its owner hashes, and looks up: in code that is generic, comparing two words
// takes 15 ns more.
type addrs[K comparable] struct {
	slots []slot[K] // a power of two; one whose value is 0 is free
	shift uint8     // of a hash, to the index of a slot; below 64, which spares the compiler a case
	n     int
}

type slot[K comparable] struct {
	key K
	val uint32
}

// put gives an address a value, in the place of the one that it has.
func (m *addrs[K]) put(key K, val uint32, hash func(K) uint64) {
	if 2*(m.n+1) > len(m.slots) {
		old, bits := m.slots, uint8(4)
		for 1<<bits < 4*(m.n+1) {
			bits++
		}
		*m = addrs[K]{slots: make([]slot[K], 1<<bits), shift: 64 - bits}
		for _, s := range old {
			if s.val != 0 {
				m.put(s.key, s.val, hash)
			}
		}
	}
	mask := uint64(len(m.slots) - 1)
	i := hash(key) >> m.shift & mask
	for m.slots[i].val != 0 && m.slots[i].key != key {
		i = (i + 1) & mask
	}
	if m.slots[i].val == 0 {
		m.n++
	}
	m.slots[i] = slot[K]{key, val}
}
