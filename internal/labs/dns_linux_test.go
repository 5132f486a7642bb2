package labs

import (
	"fmt"
	"net"
	"testing"

	"github.com/seed-a61be3fe/natplane/snat"
)

func TestLabDNS(t *testing.T) {
	l, nat := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats().SessionsCreated
		// A resolver asks from a new socket every time, whose port the kernel draws.
		sockets := map[string]bool{}
		for i := range 200 {
			if err := l.Lookup(t.Context(), f, fmt.Sprintf("host-%d.example.", i), func(c net.Conn) { sockets[c.LocalAddr().String()] = true }); err != nil {
				t.Fatal(err)
			}
		}
		if created := nat.Stats().SessionsCreated - before; created != uint64(len(sockets)) {
			t.Errorf("%d sessions for %d sockets", created, len(sockets))
		}
	})
}
