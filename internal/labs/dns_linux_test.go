package labs

import (
	"fmt"
	"testing"

	"github.com/seed-a61be3fe/natplane/snat"
)

func TestLabDNS(t *testing.T) {
	l, nat := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f Family) {
		for _, network := range []string{"udp", "tcp"} {
			before := nat.Stats().SessionsCreated
			// A resolver asks from a new socket every time, whose port the kernel draws.
			var used sockets
			for i := range 200 {
				if err := l.LookupOver(t.Context(), network, f, fmt.Sprintf("host-%d.example.", i), used.add); err != nil {
					t.Fatal(err)
				}
			}
			asked, distinct := used.count()
			if created := int(nat.Stats().SessionsCreated - before); created < distinct || created > asked {
				t.Errorf("%s: %d sessions for %d questions from %d sockets", network, created, asked, distinct)
			}
		}
	})
}
