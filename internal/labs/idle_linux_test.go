package labs

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// withIdle runs a test with an idle timeout, and again with a longer one where the
// machine stood still for so long that a connection which should have lived may
// rightly have idled: try returns the longest pause of such a connection, and what
// was wrong.
func withIdle(t *testing.T, idle time.Duration, try func(t *testing.T, idle time.Duration) (pause time.Duration, err error)) {
	for ; ; idle *= 4 {
		pause, err := try(t, idle)
		if err == nil {
			return
		}
		if pause < idle || idle > labTimeout/4 {
			t.Fatal(err)
		}
		t.Logf("once more: the machine paused for %v, the timeout is %v: %v", pause, idle, err)
	}
}

// A connection without packets for the idle timeout ends in a RST that both
// kernels believe; one that goes on does not.
func TestLabResetOnIdle(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		withIdle(t, 2*time.Second, func(t *testing.T, idle time.Duration) (pause time.Duration, err error) {
			l, nat := start(t, snat.Policy{IdleTimeout: idle, EnableTCPReset: true}, allPorts)
			said := time.Now()
			quietClient, quietServer := l.connect(t, f, 7)
			busyClient, busyServer := l.connect(t, f, 8)
			chat := func(client, server net.Conn) error {
				err := exchange(client, server)
				pause, said = max(pause, time.Since(said)), time.Now()
				return err
			}
			if err := chat(quietClient, quietServer); err != nil {
				return pause, err
			}
			began := time.Now()
			ends := make(chan error, 2)
			for _, c := range []net.Conn{quietClient, quietServer} {
				go func() {
					_, err := c.Read(make([]byte, 1))
					ends <- err
				}()
			}
			for left, poll := 2, time.Tick(idle/8); left > 0; {
				select {
				case err := <-ends:
					left--
					if !errors.Is(err, syscall.ECONNRESET) {
						return pause, fmt.Errorf("an end of the quiet connection: %w, want %w", err, syscall.ECONNRESET)
					}
				case <-poll:
					if err := chat(busyClient, busyServer); err != nil {
						return pause, err
					}
				}
			}
			// Timers count in ticks and the router is late by 10 ms at most; the
			// rest is for a busy machine.
			took := time.Since(began)
			if err := chat(busyClient, busyServer); err != nil {
				return pause, err
			}
			if took < idle-flow.Tick || took > idle+pause+30*time.Second {
				t.Errorf("the reset came after %v, want %v", took, idle)
			}
			if s := nat.Stats(); s.Resets != 2 || s.Expired[flow.ClassTCPEstablished] != 1 {
				return pause, fmt.Errorf("%d resets for %d connections that have expired, want 2 for 1", s.Resets, s.Expired[flow.ClassTCPEstablished])
			}
			return pause, nil
		})
	})
}

// Without resets the connection ends in silence: what is said later goes nowhere.
func TestLabSilentEnd(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		withIdle(t, time.Second, func(t *testing.T, idle time.Duration) (pause time.Duration, err error) {
			l, nat := start(t, snat.Policy{IdleTimeout: idle}, allPorts)
			began := time.Now()
			client, server := l.connect(t, f, 7)
			client.SetDeadline(time.Now().Add(labTimeout / 4)) // what is lost is not said again
			server.SetDeadline(time.Now().Add(labTimeout / 4))
			if err := exchange(client, server); err != nil {
				return time.Since(began), err
			}
			eventually(t, "the session has expired", func() bool { return nat.Stats().Expired[flow.ClassTCPEstablished] == 1 })
			before := nat.Stats().Outbound.Drops[flow.ReasonNoFlow]
			if _, err := client.Write([]byte("late")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the late segment is dropped", func() bool { return nat.Stats().Outbound.Drops[flow.ReasonNoFlow] > before })
			if n := nat.Stats().Resets; n != 0 {
				t.Errorf("%d resets, want none", n)
			}
			return 0, nil
		})
	})
}
