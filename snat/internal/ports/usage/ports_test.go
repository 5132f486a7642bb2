package usage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Every word stands for counts of its own, and whatever counts fit have one word.
func TestWords(t *testing.T) {
	of := map[Port]word{}
	for n := range 1 << 16 {
		w := word(n)
		if p := w.port(); w != paged && pack(p) == w {
			if other, known := of[p]; known {
				t.Fatalf("%+v is %#x and %#x", p, other, w)
			}
			of[p] = w
		}
	}
	assert.Zero(t, of[Port{}])
	assert.Equal(t, one, of[Port{Active: 1}])
	edges := []uint32{0, 1, 2, 14, 15, 16, 17, 30, 31, 32, 33, 1<<14 - 2, 1<<14 - 1, 1 << 14, 1 << 16, 1 << 31, 1<<32 - 1}
	for _, a := range edges {
		for _, h := range edges {
			for _, r := range edges {
				p := Port{Active: a, Held: h, Reset: r}
				kinds := min(a, 1) + min(h, 1) + min(r, 1)
				fits := kinds < 2 && a+h+r < 1<<14 || a < 32 && h < 32 && r < 16
				w, known := of[p]
				require.Equal(t, fits, known, "%+v", p)
				if !fits {
					w = paged
				}
				require.Equal(t, w, pack(p), "%+v", p)
			}
		}
	}
}

// twin is Ports in the plainest way.
type twin []Port

// world is Ports and its twin.
type world struct {
	t *testing.T
	p Ports
	m twin
}

// compare compares one port.
func (w *world) compare(o int) {
	want := Port{}
	if o < len(w.m) {
		want = w.m[o]
	}
	if got := w.p.At(o); got != want || w.p.Free(o) != (want == Port{}) || (w.p.Place(o) == nil) != (o >= len(w.m)) {
		w.t.Fatalf("port %d: %+v, free %v, want %+v", o, got, w.p.Free(o), want)
	}
}

// compareAll compares all of them, and what they take.
func (w *world) compareAll() {
	w.t.Helper()
	require.Equal(w.t, len(w.m), w.p.Len())
	pages, used := map[int]bool{}, []int(nil)
	for o := range len(w.m) + 2 {
		w.compare(o)
		if o > 0 && o < len(w.m) && w.m[o] != (Port{}) {
			used = append(used, o-1)
		}
		if o < len(w.m) && pack(w.m[o]) == paged {
			pages[o/pagePorts] = true
		}
	}
	require.Equal(w.t, used, slices.Collect(w.p.Used(1, len(w.m)+1)))
	require.GreaterOrEqual(w.t, w.p.Bytes(), 2*len(w.m)+len(pages)*pagePorts*12)
}

var classes = [...]flow.Class{flow.ClassTCPEstablished, flow.ClassTCPTimeWait, flow.ClassTCPReset, flow.ClassUDP, flow.ClassUDPHeld}

// step does n times what a code says to a port, if it can be done.
func (w *world) step(code, o, n int) {
	c, to := classes[code/8%len(classes)], classes[code/40%len(classes)]
	switch code % 8 {
	case 0, 1, 2:
		for range n {
			w.p.Add(o, c)
			*w.m[o].Of(c)++
		}
	case 3, 4:
		for range min(n, int(*w.m[o].Of(c))) {
			w.p.Remove(o, c)
			*w.m[o].Of(c)--
		}
	case 5:
		for range min(n, int(*w.m[o].Of(c))) {
			w.p.Exchange(o, c, to)
			*w.m[o].Of(c)--
			*w.m[o].Of(to)++
		}
	case 6:
		only := w.m[o] == Port{Active: 1}
		if w.p.Free(o) {
			w.p.Begin(o)
			w.m[o].Active = 1
		} else if ended := w.p.End(o); ended != only {
			w.t.Fatalf("port %d with %+v: End %v", o, w.m[o], ended)
		} else if ended {
			w.m[o].Active = 0
		}
	case 7:
		if n%4 > 0 {
			w.p.Grow(len(w.m) + n%70)
			w.m = append(w.m, make(twin, n%70)...)
			break
		}
		before := w.p
		w.p = before.Clone()
		if before.Len() > 0 { // which the copy does not see
			before.Add(o, flow.ClassTCPOpening)
		}
	}
	w.compare(o)
}

// play makes steps of a script: four bytes for each.
func play(t *testing.T, script []byte) {
	w := &world{t: t}
	w.p.Grow(3)
	w.m = make(twin, 3)
	sessions := 0
	for ; len(script) >= 4; script = script[4:] {
		n := int(script[2])
		switch script[3] % 8 {
		case 0: // to the limit of a word
			n = 1<<14 - 2 + n%5
		case 1, 2:
			n = 13 + n%6
		case 3, 4:
			n = 29 + n%6
		}
		if sessions += n; sessions > 1<<18 {
			break
		}
		w.step(int(script[0]), int(script[1])%len(w.m), n)
	}
	w.compareAll()
}

func TestPortsAgainstTwin(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 4*(1+random.IntN(300)))
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { play(t, script) })
	}
}

func FuzzPorts(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 8, 0, 0, 5, 3, 0, 0, 0})
	f.Add([]byte{0, 1, 9, 0, 5, 1, 17, 1, 7, 2, 69, 5, 16, 70, 4, 3, 7, 0, 4, 5, 13, 1, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1<<10 {
			script = script[:1<<10]
		}
		play(t, script)
	})
}

// What most pools ever need takes 2 bytes a port, and allocates nothing; a port with many sessions adds
// what its page takes.
func TestPortsTakeTwoBytes(t *testing.T) {
	var p Ports
	p.Grow(1024)
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for o := range p.Len() {
			p.Begin(o)
			p.Exchange(o, flow.ClassTCPOpening, flow.ClassTCPClosing)
			for range 15 {
				p.Add(o, flow.ClassTCPReset)
				p.Add(o, flow.ClassUDP)
			}
			for range 15 {
				p.Remove(o, flow.ClassTCPReset)
				p.Remove(o, flow.ClassUDP)
			}
			p.Exchange(o, flow.ClassTCPClosing, flow.ClassTCPOpening)
			require.True(t, p.End(o))
		}
	}))
	assert.Equal(t, 2*1024, p.Bytes())
	for range 40 {
		p.Add(5, flow.ClassTCPReset)
		p.Add(5, flow.ClassUDP)
	}
	assert.Equal(t, Port{Active: 40, Reset: 40}, p.At(5))
	assert.Equal(t, 2*1024+4*1024/pagePorts+pagePorts*int(unsafe.Sizeof(Port{})), p.Bytes())
}
