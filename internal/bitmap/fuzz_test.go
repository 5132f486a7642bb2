package bitmap

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// A model is the dull twin: one bool per bit, scanned.
type model []bool

func (m model) firstZeroFrom(from int) (int, bool) {
	for i := from; i < len(m); i++ {
		if !m[i] {
			return i, true
		}
	}
	return 0, false
}

// checkTree compares every bit and every summary bit of w with the model.
func checkTree(t *testing.T, w []uint64, m model) {
	t.Helper()
	want := make([]uint64, Words(len(m)))
	mid, low := levels(len(m))
	for i, set := range m {
		if Test(w, len(m), i) != set {
			t.Fatalf("n %d: Test(%d) = %v", len(m), i, !set)
		}
		if set {
			want[low+i/64] |= 1 << (i % 64)
		}
	}
	// A summary bit is set when all that exists below it is.
	for _, level := range []struct{ up, shift int }{{mid, 6}, {0, 12}} {
		if level.shift == 6 && low == 0 || level.shift == 12 && mid == 0 {
			break
		}
		for j := 0; j<<level.shift < len(m); j++ {
			below := m[j<<level.shift : min(len(m), (j+1)<<level.shift)]
			if !slices.Contains(below, false) {
				want[level.up+j/64] |= 1 << (j % 64)
			}
		}
	}
	if !slices.Equal(w, want) {
		t.Fatalf("n %d: tree is\n%x, want\n%x", len(m), w, want)
	}
}

// FuzzBitmap runs a script of 4-byte operations against a bitmap and its model. The
// operations work on runs of bits, so that short scripts fill whole words.
func FuzzBitmap(f *testing.F) {
	for seed, n := range sizes {
		rng := rand.New(rand.NewPCG(3, uint64(seed)))
		script := make([]byte, 4*(10+seed))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(uint32(n-1), script)
	}
	f.Fuzz(func(t *testing.T, size uint32, script []byte) {
		n := 1 + int(size%MaxBits)
		w, m := make([]uint64, Words(n)), make(model, n)
		script = script[:min(len(script), 4*64)]
		for ; len(script) >= 4; script = script[4:] {
			arg := binary.LittleEndian.Uint32(script)
			op, from := arg&7, int(arg>>3)%n
			switch op {
			case 0, 1, 2: // set, or clear, a run of bits
				for i := from; i < min(n, from+1<<(arg>>29*2)); i++ {
					if m[i] = op != 2; m[i] {
						Set(w, n, i)
					} else {
						Clear(w, n, i)
					}
				}
			case 3: // take the lowest free bit
				got, ok := FirstZero(w, n)
				if want, wok := m.firstZeroFrom(0); got != want || ok != wok {
					t.Fatalf("n %d: FirstZero = %d, %v, want %d, %v", n, got, ok, want, wok)
				}
				if took, tok := Take(w, n); took != got || tok != ok {
					t.Fatalf("n %d: Take = %d, %v, FirstZero = %d, %v", n, took, tok, got, ok)
				}
				if ok {
					m[got] = true
				}
			case 4, 5:
				got, ok := FirstZeroFrom(w, n, from)
				if want, wok := m.firstZeroFrom(from); got != want || ok != wok {
					t.Fatalf("n %d: FirstZeroFrom(%d) = %d, %v, want %d, %v", n, from, got, ok, want, wok)
				}
			case 6:
				Clear(w, n, from)
				m[from] = false
			case 7: // grow by up to a factor of 8
				larger := min(MaxBits, n+from*int(arg>>29))
				dst := make([]uint64, Words(larger))
				Grow(dst, larger, w, n)
				w, m, n = dst, append(m, make(model, larger-n)...), larger
			}
		}
		checkTree(t, w, m)
	})
}
