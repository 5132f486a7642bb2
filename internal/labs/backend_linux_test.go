package labs

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// asBackend makes the test binary the program of a backend, which is called so. It is a
// process of its own, so that it can be killed.
const asBackend = "NATPLANE_TEST_BACKEND"

// Signals to the program of a backend.
const (
	refuse = syscall.SIGUSR1 // no new connections: what is established goes on
	accept = syscall.SIGUSR2 // again
)

func TestMain(m *testing.M) {
	if name := os.Getenv(asBackend); name != "" {
		if err := runBackend(name, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// launchBackend runs the program on a host. sockets are where it serves: "web=" or "udp=",
// address and port.
func launchBackend(t *testing.T, on *netlab.Namespace, sockets []string) *netlab.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return on.Launch("serving", "env", append([]string{asBackend + "=" + on.Name(), self}, sockets...)...)
}

// runBackend is the program: the web of Lab.Serve, and over UDP an echo that says who it is
// and whom it sees.
func runBackend(name string, sockets []string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, refuse, accept)
	var webs []net.Listener
	web := website(name)
	listen := func() error {
		for _, socket := range sockets {
			if at, ok := strings.CutPrefix(socket, "web="); ok {
				ln, err := net.Listen("tcp", at)
				if err != nil {
					return err
				}
				webs = append(webs, ln)
				go web.Serve(ln)
			}
		}
		return nil
	}
	for _, socket := range sockets {
		if at, ok := strings.CutPrefix(socket, "udp="); ok {
			pc, err := net.ListenPacket("udp", at)
			if err != nil {
				return err
			}
			go received(pc, func(datagram []byte, from net.Addr) {
				_, _ = pc.WriteTo(fmt.Appendf(nil, "%s %v %s", name, from, datagram), from)
			})
		}
	}
	if err := listen(); err != nil {
		return err
	}
	fmt.Println(name, "is serving")
	for s := range signals {
		if s == accept {
			if err := listen(); err != nil {
				return err
			}
			continue
		}
		for _, ln := range webs {
			ln.Close()
		}
		webs = nil
	}
	return nil
}
