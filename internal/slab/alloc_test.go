package slab

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func TestNoAllocs(t *testing.T) {
	m := newMemory(t)
	var s Slab[[16]uint32]
	var r Runs
	s.Init(m)
	r.Init(m)
	m.FreeChunk(m.Chunk(ChunkSize), ChunkSize)
	for name, f := range map[string]func(){
		"Memory": func() { m.FreeChunk(m.Chunk(ChunkSize), ChunkSize) },
		"Slab": func() {
			i := s.Alloc()
			s.At(i)[3]++
			s.Free(i)
		},
		"Runs": func() {
			h := r.Alloc(100)
			r.Words(h)[99]++
			r.Free(h)
		},
		"Prefetch": func() {
			var ps [64]unsafe.Pointer
			for i := range ps {
				ps[i] = unsafe.Pointer(&ps[i])
			}
			PrefetchEach(ps[:])
		},
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocs, want 0", name, n)
		}
	}
}

// inlineProbe is compiled by TestInlining, which looks for the calls in it.
func inlineProbe(s *Slab[[16]uint32], r *Runs, i uint32, h Run) uint64 {
	return uint64(s.At(i)[0]) + r.Words(h)[0]
}

func TestInlining(t *testing.T) {
	pkttest.OneGoroutine(t)
	if testing.Short() {
		t.Skip("compiles the package")
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool to ask: ", err)
	}
	if _, err := os.Stat("alloc_test.go"); err != nil {
		t.Skip("the source is not here: ", err)
	}
	out, err := exec.Command(gotool, "test", "-c", "-gcflags=-m", "-o", os.DevNull, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	for _, call := range []string{
		"inlining call to (*Slab[go.shape.[16]uint32]).At",
		"inlining call to (*Runs).Words",
	} {
		found := false
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "alloc_test.go") && strings.Contains(line, call) {
				found = true
			}
		}
		if !found {
			t.Errorf("the compiler does not report %q for inlineProbe", call)
		}
	}
	var s Slab[[16]uint32]
	var r Runs
	m := newMemory(t)
	s.Init(m)
	r.Init(m)
	i, h := s.Alloc(), r.Alloc(1)
	s.At(i)[0], r.Words(h)[0] = 40, 2
	if got := inlineProbe(&s, &r, i, h); got != 42 {
		t.Errorf("inlineProbe = %d, want 42", got)
	}
}
