package labs

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Datagrams longer than the MTU cross in fragments, both ways, and both kernels
// find them whole.
func TestLabFragmentedUDP(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		l, nat := startWith(t, snat.Config{Dataplane: snat.Dataplane{Fragments: snat.Fragments{Mode: snat.FragmentsVirtual}}}, allPorts)
		l.Serve(t)
		c, err := l.Client.DialContext(t.Context(), "udp", f.At(PortEcho))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var lost int
		for _, size := range []int{1, 1472, 1473, 4096, 65_000} {
			sent, err := io.ReadAll(Content(int64(size)))
			if err != nil {
				t.Fatal(err)
			}
			got := echoed(t, c, sent, &lost)
			if !bytes.Equal(got, sent) {
				t.Errorf("of %d bytes %d came back, or others", len(sent), len(got))
			}
		}
		// 1,473 bytes are two fragments over either family, 4,096 three, 65,000
		// 44 or 45.
		s := nat.Stats()
		for side, p := range map[flow.Side]snat.PacketStats{flow.Inside: s.Outbound, flow.Outside: s.Inbound} {
			if p.Forwarded < 1+1+2+3+44 {
				t.Errorf("%d packets from the %v, fragments should make them more", p.Forwarded, side)
			}
		}
		if lost == 0 && s.Outbound.Forwarded+s.Inbound.Forwarded > 2*(1+2+2+3+45) {
			t.Errorf("%d packets forwarded, more than were sent", s.Outbound.Forwarded+s.Inbound.Forwarded)
		}
	})
}

// echoed sends a datagram to an echo server, again if it was lost, and returns
// what comes back.
func echoed(t *testing.T, c net.Conn, sent []byte, lost *int) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(labTimeout); time.Now().Before(deadline); *lost++ {
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break // nothing has come
			}
			if n == len(sent) { // else a late answer to what was sent before
				return buf[:n]
			}
		}
	}
	t.Fatalf("a datagram of %d bytes does not come back within %v", len(sent), labTimeout)
	return nil
}
