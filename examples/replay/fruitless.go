// Why a run translated nothing.

package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
)

// fruitless returns why nothing was translated in a run in which nothing was. others
// is what hosts returned: that all packets are between others.
func (r *report) fruitless(others error) error {
	switch {
	case r.content.Frames == 0:
		return errors.New("the capture has no frames")
	case r.packets == 0:
		skipped := r.content.Skipped
		kinds := slices.SortedFunc(maps.Keys(skipped), func(a, b string) int {
			return cmp.Or(cmp.Compare(skipped[b], skipped[a]), cmp.Compare(a, b))
		})
		return fmt.Errorf("no frame of the capture has an IP packet; most are %q: %d of %d", kinds[0], skipped[kinds[0]], r.content.Frames)
	case others != nil:
		return others
	case r.dropped == 0:
		return errors.New("all packets are between inside hosts")
	}
	if missing := r.familyWithoutFrontend(); missing != "" {
		return fmt.Errorf("-frontend %v: the inside hosts are %s and need addresses of that family, such as %s", &r.options.frontends, missing, examples[missing])
	}
	return command.MostDropped(&r.reasons, r.packets)
}

// examples are addresses to try, by family.
var examples = map[string]string{"IPv4": "198.51.100.7", "IPv6": "2001:db8::7"}

// familyWithoutFrontend returns the family of all inside hosts that send, if no
// frontend is of it; else nothing.
func (r *report) familyWithoutFrontend() string {
	var senders, frontends [2]bool
	for _, h := range r.hosts {
		senders[flow.Family(h.addr)] = senders[flow.Family(h.addr)] || h.sends
	}
	for _, a := range r.options.frontends.values {
		frontends[flow.Family(a)] = true
	}
	for f, name := range []string{"IPv4", "IPv6"} {
		if senders[f] && !senders[1-f] && !frontends[f] {
			return name
		}
	}
	return ""
}
