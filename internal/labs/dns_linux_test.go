package labs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/snat"
)

func TestLabDNS(t *testing.T) {
	l, nat := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f family) {
		before := nat.Stats().SessionsCreated
		server := netip.AddrPortFrom(f.server, PortDNS).String()
		// A resolver asks from a new socket every time, whose port the kernel draws.
		sockets := map[string]bool{}
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := l.Client.DialContext(ctx, "udp", server)
			if err == nil {
				sockets[c.LocalAddr().String()] = true
			}
			return c, err
		}}
		const n = 200
		for i := range n {
			name := fmt.Sprintf("host-%d.example.", i)
			ctx, cancel := context.WithTimeout(t.Context(), labTimeout)
			answer, err := r.LookupTXT(ctx, name)
			cancel()
			if err != nil || len(answer) != 1 {
				t.Fatalf("%s: answer %q, error %v", name, answer, err)
			}
			asked, seen, _ := strings.Cut(answer[0], ".example")
			if asked+".example." != name {
				err = fmt.Errorf("%s: the answer is about %q", name, answer[0])
			}
			if err := errors.Join(err, f.translated(seen)); err != nil {
				t.Fatal(err)
			}
		}
		if created := nat.Stats().SessionsCreated - before; created != uint64(len(sockets)) {
			t.Errorf("%d sessions for %d sockets", created, len(sockets))
		}
	})
}
