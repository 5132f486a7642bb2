package labs

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A connection without packets for the idle timeout ends in a RST that both
// kernels believe; one that goes on does not.
func TestLabResetOnIdle(t *testing.T) {
	const idle = 2 * time.Second
	l, nat := start(t, snat.Policy{IdleTimeout: idle, EnableTCPReset: true}, allPorts)
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats()
		quietClient, quietServer := l.connect(t, f, 7)
		busyClient, busyServer := l.connect(t, f, 8)
		echo(t, quietClient, quietServer)
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
					t.Errorf("an end of the quiet connection: %v, want %v", err, syscall.ECONNRESET)
				}
			case <-poll:
				echo(t, busyClient, busyServer)
			}
		}
		// Timers count in ticks and the router is late by 10 ms at most; the
		// rest is for a busy machine.
		if took := time.Since(began); took < idle-flow.Tick || took > idle+5*time.Second {
			t.Errorf("the reset came after %v, want %v", took, idle)
		}
		echo(t, busyClient, busyServer)
		s := nat.Stats()
		if n, ended := s.Resets-before.Resets, s.Expired[flow.ClassTCPEstablished]-before.Expired[flow.ClassTCPEstablished]; n != 2 || ended != 1 {
			t.Errorf("%d resets for %d connections that have expired, want 2 for 1", n, ended)
		}
	})
}

// Without resets the connection ends in silence: what is said later goes nowhere.
func TestLabSilentEnd(t *testing.T) {
	const idle = 500 * time.Millisecond
	l, nat := start(t, snat.Policy{IdleTimeout: idle}, allPorts)
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats()
		client, server := l.connect(t, f, 7)
		echo(t, client, server)
		eventually(t, "the session has expired", func() bool {
			return nat.Stats().Expired[flow.ClassTCPEstablished] == before.Expired[flow.ClassTCPEstablished]+1
		})
		if _, err := client.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the late segment is dropped", func() bool {
			return nat.Stats().Outbound.Drops[flow.ReasonNoFlow] > before.Outbound.Drops[flow.ReasonNoFlow]
		})
		if n := nat.Stats().Resets - before.Resets; n != 0 {
			t.Errorf("%d resets, want none", n)
		}
	})
}
