package forwards

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestSocketsSpread enters the sockets of machines as people number them: the machine's
// number is the last part of its address, and all have the same port.
func TestSocketsSpread(t *testing.T) {
	const n = 1000
	for name, at := range map[string]func(i uint32) Socket{
		"IPv4":            func(i uint32) Socket { return Socket{Addr: [2]uint64{10<<24 | uint64(i)}, Port: 8443} },
		"IPv6, last bits": func(i uint32) Socket { return Socket{V6: true, Addr: [2]uint64{0xfd01 << 48, uint64(i)}, Port: 8443} },
		"IPv6, subnets":   func(i uint32) Socket { return Socket{V6: true, Addr: [2]uint64{0xfd01<<48 | uint64(i), 1}, Port: 8443} },
		"IPv6, upper half": func(i uint32) Socket {
			return Socket{V6: true, Addr: [2]uint64{0xfd01 << 48, uint64(i) << 32}, Port: 8443}
		},
		"IPv4, ports as well": func(i uint32) Socket { return Socket{Addr: [2]uint64{10<<24 | uint64(i)}, Port: uint16(30_000 + i)} },
		"one machine, ports":  func(i uint32) Socket { return Socket{Addr: [2]uint64{10 << 24}, Port: uint16(30_000 + i)} },
	} {
		for _, numbered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/numbered=%v", name, numbered), func(t *testing.T) {
				var table sockets
				for i := range uint32(n) {
					s := at(i)
					s.Proto, s.Forward = 6, 1
					if numbered {
						s.Instance = i
					}
					table.put(&s)
				}
				longest, run := 0, 0
				for i := range 2 * len(table.slots) {
					if table.slots[i%len(table.slots)].forward == 0 {
						run = 0
					} else if run++; run > longest {
						longest = run
					}
				}
				assert.Equal(t, n, table.n)
				assert.LessOrEqual(t, longest, 40, "slots in a row that are used, of %d", len(table.slots))
			})
		}
	}
}
