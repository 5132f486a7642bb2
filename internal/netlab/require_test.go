package netlab

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// fakeTB records how a test would have ended.
type fakeTB struct {
	testing.TB
	ended string
}

func (f *fakeTB) Helper()                           {}
func (f *fakeTB) Fatalf(format string, args ...any) { f.end("fatal", format, args) }
func (f *fakeTB) Skipf(format string, args ...any)  { f.end("skip", format, args) }
func (f *fakeTB) end(how, format string, args []any) {
	f.ended = how + ": " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestRequireNamesWhatIsMissing(t *testing.T) {
	for ci, want := range map[string]string{"": "skip: ", "true": "fatal: "} {
		t.Setenv("CI", ci)
		tb, done := &fakeTB{}, make(chan struct{})
		go func() {
			defer close(done)
			Require(tb, "natplane-no-such-program", "natplane-nor-this")
		}()
		<-done
		if !strings.HasPrefix(tb.ended, want) || !strings.Contains(tb.ended, "natplane-no-such-program") || !strings.Contains(tb.ended, "natplane-nor-this") {
			t.Errorf("CI=%q: test ended with %q, want %q and both programs", ci, tb.ended, want)
		}
	}
}
