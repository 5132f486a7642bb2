package main

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/puzpuzpuz/xsync/v4"
)

// tuple is the key of a table: what a packet says, 13 bytes.
type tuple struct {
	src, dst         uint32
	srcPort, dstPort uint16
	proto            uint8
}

// entry is what a table knows of one direction of a flow, as large as a session of ours.
type entry struct {
	addr uint32
	port uint16
	_    [58]byte
}

// table is what a user would write by hand: a map, and the rewrite of RFC 1624.
type table struct {
	get   func(tuple) (entry, bool)
	put   func(tuple, entry)
	count int // flows so far: the next has the next port
}

func openMap(int) (translator, error) {
	var mu sync.Mutex
	m := map[tuple]entry{}
	return &table{
		get: func(k tuple) (entry, bool) {
			mu.Lock()
			defer mu.Unlock()
			e, ok := m[k]
			return e, ok
		},
		put: func(k tuple, e entry) {
			mu.Lock()
			defer mu.Unlock()
			m[k] = e
		},
	}, nil
}

func openSyncMap(int) (translator, error) {
	var m sync.Map
	return &table{
		get: func(k tuple) (entry, bool) {
			v, ok := m.Load(k)
			if !ok {
				return entry{}, false
			}
			return *v.(*entry), true
		},
		put: func(k tuple, e entry) { m.Store(k, &e) },
	}, nil
}

func openXsync(int) (translator, error) {
	m := xsync.NewMap[tuple, entry]()
	return &table{get: m.Load, put: m.Store}, nil
}

func (t *table) send(pkts [][]byte) error {
	for _, p := range pkts {
		if _, err := t.one(p); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) one(p []byte) ([]byte, error) {
	if len(p) < 28 || p[0] != 0x45 || p[9] != 17 {
		return nil, fmt.Errorf("no plain UDP packet: %x", p)
	}
	k := tuple{
		src: binary.BigEndian.Uint32(p[12:]), dst: binary.BigEndian.Uint32(p[16:]),
		srcPort: binary.BigEndian.Uint16(p[20:]), dstPort: binary.BigEndian.Uint16(p[22:]), proto: p[9],
	}
	e, ok := t.get(k)
	if !ok {
		a := frontend(t.count / portsPerFrontend).As4()
		e = entry{addr: binary.BigEndian.Uint32(a[:]), port: uint16(1024 + t.count%portsPerFrontend)}
		t.count++
		t.put(k, e)
		t.put(tuple{src: k.dst, dst: e.addr, srcPort: k.dstPort, dstPort: e.port, proto: k.proto}, entry{addr: k.src, port: k.srcPort})
	}
	address := update(update(0, uint16(k.src>>16), uint16(e.addr>>16)), uint16(k.src), uint16(e.addr))
	fix(p[10:], address)
	fix(p[26:], update(address, k.srcPort, e.port))
	binary.BigEndian.PutUint32(p[12:], e.addr)
	binary.BigEndian.PutUint16(p[20:], e.port)
	return p, nil
}

// update adds to a difference of sums that a word was changed (RFC 1624).
func update(delta uint32, from, to uint16) uint32 { return delta + uint32(^from) + uint32(to) }

// fix applies a difference to a checksum.
func fix(sum []byte, delta uint32) {
	s := uint32(^binary.BigEndian.Uint16(sum)) + delta
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}

func (t *table) finish() error { return nil }
func (t *table) bytes() int    { return 0 }
func (t *table) close()        {}
