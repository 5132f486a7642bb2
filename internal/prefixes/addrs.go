package prefixes

// Addrs4 maps single IPv4 addresses to values above 0. It is a hash map with open
// addressing, at most half full: one cache line in most cases. The zero Addrs4 is
// empty. Many goroutines may look up at once, but not while one calls Put.
type Addrs4 struct {
	slots []slot4
	shift uint8
	n     int
}

type slot4 struct{ key, val uint32 }

// minBits is the binary logarithm of the slots of the smallest map.
const minBits = 4

// slotBits returns the binary logarithm of the slots that n entries get when a map
// grows.
func slotBits(n int) uint8 {
	bits := uint8(minBits)
	for 1<<bits < 4*n {
		bits++
	}
	return bits
}

// Get returns the value of an address, or 0 if there is none. It is inlined.
func (m *Addrs4) Get(key uint32) uint32 {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint32(len(m.slots) - 1)
	for i := key * 0x9e3779b1 >> m.shift; ; i++ {
		s := m.slots[i&mask]
		if s.key == key || s.val == 0 {
			return s.val
		}
	}
}

// Put gives an address a value above 0, in the place of the one that it has.
func (m *Addrs4) Put(key, val uint32) {
	if 2*(m.n+1) > len(m.slots) {
		old, bits := m.slots, slotBits(m.n+1)
		*m = Addrs4{slots: make([]slot4, 1<<bits), shift: 32 - bits}
		for _, s := range old {
			if s.val != 0 {
				m.Put(s.key, s.val)
			}
		}
	}
	mask := uint32(len(m.slots) - 1)
	i := key * 0x9e3779b1 >> m.shift & mask
	for m.slots[i].val != 0 && m.slots[i].key != key {
		i = (i + 1) & mask
	}
	if m.slots[i].val == 0 {
		m.n++
	}
	m.slots[i] = slot4{key, val}
}

// Addrs6 is Addrs4 for IPv6 addresses, as two big-endian halves.
type Addrs6 struct {
	slots []slot6
	shift uint8
	n     int
}

type slot6 struct {
	key [2]uint64
	val uint32
}

// Hash6 returns a hash of an IPv6 address, whose high bits are good. It is the same in
// every run.
func Hash6(key [2]uint64) uint64 {
	return (key[0]*0x9e3779b97f4a7c15 ^ key[1]) * 0xd6e8feb86659fd93
}

// Get returns the value of an address, or 0 if there is none. It is inlined.
func (m *Addrs6) Get(key [2]uint64) uint32 {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint64(len(m.slots) - 1)
	for i := Hash6(key) >> m.shift; ; i++ {
		s := &m.slots[i&mask]
		if s.key == key || s.val == 0 {
			return s.val
		}
	}
}

// Put gives an address a value above 0, in the place of the one that it has.
func (m *Addrs6) Put(key [2]uint64, val uint32) {
	if 2*(m.n+1) > len(m.slots) {
		old, bits := m.slots, slotBits(m.n+1)
		*m = Addrs6{slots: make([]slot6, 1<<bits), shift: 64 - bits}
		for _, s := range old {
			if s.val != 0 {
				m.Put(s.key, s.val)
			}
		}
	}
	mask := uint64(len(m.slots) - 1)
	i := Hash6(key) >> m.shift & mask
	for m.slots[i].val != 0 && m.slots[i].key != key {
		i = (i + 1) & mask
	}
	if m.slots[i].val == 0 {
		m.n++
	}
	m.slots[i] = slot6{key, val}
}
