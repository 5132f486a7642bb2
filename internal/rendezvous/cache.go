package rendezvous

import (
	"encoding/binary"
	"slices"
	"weak"

	"github.com/cespare/xxhash/v2"
)

// Cache makes tables, and makes none twice while somebody still has it: many rules have
// the same members, and those that leave or come do so for all of them. It does not
// keep tables alive itself. The zero value is ready. It is not safe for concurrent use;
// its tables are.
type Cache struct {
	tables map[uint64]weak.Pointer[Table] // by the hash of their members
	sweep  int                            // the length of tables that is worth looking for dead ones
}

// New returns the table that the function New would, perhaps one that exists already.
func (c *Cache) New(names []uint64, eligible []bool) *Table {
	members := candidates(names, eligible)
	if len(members) <= maxDirect {
		return build(members)
	}
	var content []byte
	for _, m := range members {
		content = binary.BigEndian.AppendUint64(content, m.name)
		content = binary.BigEndian.AppendUint16(content, m.index)
	}
	hash := xxhash.Sum64(content)
	if t := c.tables[hash].Value(); t != nil && slices.Equal(t.members, members) {
		return t
	}
	t := build(members)
	if len(c.tables) >= c.sweep {
		for hash, table := range c.tables {
			if table.Value() == nil {
				delete(c.tables, hash)
			}
		}
		c.sweep = 2*len(c.tables) + 16
	}
	if c.tables == nil {
		c.tables = map[uint64]weak.Pointer[Table]{}
	}
	c.tables[hash] = weak.Make(t)
	return t
}
