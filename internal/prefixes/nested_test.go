package prefixes

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestNested(t *testing.T) {
	var all []netip.Prefix
	for _, s := range []string{"10.1.0.0/16", "2001:db8::/32", "10.0.0.0/8", "10.1.2.0/24", "11.0.0.0/8", "10.0.0.0/8", "2001:db8::1/128"} {
		all = append(all, netip.MustParsePrefix(s))
	}
	got := ""
	Nested(len(all), func(i int) netip.Prefix { return all[i] }, func(open []int, i int) { got += fmt.Sprint(i, open, " ") })
	if want := "2 [] 5 [2] 0 [2 5] 3 [2 5 0] 4 [] 1 [] 6 [1] "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNames(t *testing.T) {
	var n Names[string]
	if got, ok := n.Of(netip.MustParseAddr("10.0.0.1")); ok {
		t.Errorf("without names: %q", got)
	}
	for _, p := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16", "2001:db8::/32"} {
		n.Put(netip.MustParsePrefix(p), fmt.Sprint(p, " ", len(n.of)))
	}
	n.Put(netip.Prefix{}, "none")
	for a, want := range map[string]string{
		"10.1.2.3": "10.1.0.0/16 1", "10.2.0.0": "10.0.0.0/8 0", "11.0.0.0": "", "2001:db8::7": "2001:db8::/32 2", "::1": "",
	} {
		if got, ok := n.Of(netip.MustParseAddr(a)); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", a, got, want)
		}
	}
}
