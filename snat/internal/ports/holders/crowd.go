package holders

// Crowds: who has most of what several have.

// crowd is parties, or pairs, and who of them leads. Records are those of the table that owns it.
type crowd struct {
	first  uint32 // the latest
	leader uint32 // 0: not known
	top    uint32 // nobody has more; the leader has as many, if it is known
}

// maxLook is how many of a crowd are looked at when it has lost its leader: all pods that a node can have.
const maxLook = 1024

// rise notes that a record has more now, total. In what order records that are not new come back does not
// matter: the leader has to be found then.
func (c *crowd) rise(id, total uint32, begins bool) {
	switch {
	case total > c.top:
		c.leader, c.top = id, total
	case total == c.top && c.leader != id:
		c.leader = 0 // of equals, the lowest
	}
	if !begins {
		c.leader = 0
	}
}

// fall notes that a record has less now.
func (c *crowd) fall(id uint32) {
	if c.leader == id {
		c.leader = 0
	}
}

// pairsOf and insidesOf say what a crowd is of.
const (
	pairsOf   = false
	insidesOf = true
)

// leader returns the record with most ports in a crowd; 0 if nobody has any.
func (t *Table) leader(c *crowd, of bool) uint32 {
	if c.leader != 0 {
		return c.leader
	}
	c.top = 0
	var lowest [2]uint64
	id := c.first
	for range maxLook {
		if id == 0 {
			break
		}
		held, inside, next := t.member(id, of)
		total, addr := held.Total(), t.parties.At(inside).Addr
		if total > c.top || total == c.top && c.leader != 0 && before(addr, lowest) {
			c.leader, c.top, lowest = id, total, addr
		}
		id = next
	}
	return c.leader
}

// member returns what a record of a crowd holds, its inside address, and the next record.
func (t *Table) member(id uint32, insides bool) (held *Held, inside, next uint32) {
	if insides {
		p := t.parties.At(id)
		return &p.Held, id, p.place.next
	}
	p := t.pairs.At(id)
	return &p.Held, p.inside, p.place.next
}

func before(a, b [2]uint64) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

// gather puts a record into a crowd.
func (t *Table) gather(c *crowd, id uint32, of bool) {
	at := t.place(id, of)
	if *at = (sibling{next: c.first}); c.first != 0 {
		t.place(c.first, of).prev = id
	}
	c.first = id
}

// scatter takes a record out of a crowd.
func (t *Table) scatter(c *crowd, id uint32, of bool) {
	at := *t.place(id, of)
	if at.prev == 0 {
		c.first = at.next
	} else {
		t.place(at.prev, of).next = at.next
	}
	if at.next != 0 {
		t.place(at.next, of).prev = at.prev
	}
	c.fall(id)
}

// place returns the place of a record in its crowd.
func (t *Table) place(id uint32, insides bool) *sibling {
	if insides {
		return &t.parties.At(id).place
	}
	return &t.pairs.At(id).place
}
