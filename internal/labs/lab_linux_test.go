package labs

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// allPorts is what a frontend has.
const allPorts = 64_000

// sized returns how much of something a test does: less where tests are brief.
func sized(full, less int) int {
	if pkttest.Short() {
		return less
	}
	return full
}

// start runs a lab around a translator with one instance for the whole inside,
// which owns ports 1024 and up of both frontends, and after the test demands that
// nothing was wrong with any packet.
func start(t *testing.T, policy snat.Policy, ports int) (*Lab, *snat.NAT) {
	t.Helper()
	return startWith(t, snat.Config{Policy: policy}, ports)
}

// startWith is start for a configuration that has everything but its instance.
func startWith(t *testing.T, c snat.Config, ports int, tools ...string) (*Lab, *snat.NAT) {
	t.Helper()
	netlab.Require(t, tools...)
	c.Instances = []snat.Instance{{
		Name: "inside", Inside: Inside,
		Ports: []snat.PortRange{{Frontend: IPv4.Frontend, First: 1024, Count: ports}, {Frontend: IPv6.Frontend, First: 1024, Count: ports}},
	}}
	nat, err := snat.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nat.Close)
	l := New(t, nat)
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
		if l.Audit.Packets(flow.Outside) == 0 {
			t.Error("no packet has been sent outside")
		}
		for _, side := range []flow.Side{flow.Inside, flow.Outside} {
			if n := l.Router.Device(side).Failed; n > 0 {
				t.Errorf("the %v device refused %d packets", side, n)
			}
		}
	})
	return l, nat
}

// sockets remembers the sockets of a client, by local address and port.
type sockets struct {
	mu    sync.Mutex
	dials int
	seen  map[string]bool
}

func (s *sockets) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.dials++
	s.seen[c.LocalAddr().String()] = true
}

// count returns how many connections there were, and from how many different
// local addresses and ports: kernels give a port again that has become free.
func (s *sockets) count() (dials, distinct int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials, len(s.seen)
}

// counting is Browser with a count of its connections.
func (l *Lab) counting(keepAlive bool) (*http.Client, *sockets) {
	c, s := l.Browser(keepAlive), new(sockets)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := l.Dial(ctx, network, address)
		if err == nil {
			s.add(conn)
		}
		return conn, err
	}
	return c, s
}

// families runs a test for each address family.
func families(t *testing.T, run func(t *testing.T, f Family)) {
	for _, f := range Families {
		t.Run(f.Name, func(t *testing.T) { run(t, f) })
	}
}

// connect returns both ends of a connection from the client to a port of the
// server.
func (l *Lab) connect(t *testing.T, f Family, port uint16) (client, server *net.TCPConn) {
	t.Helper()
	return join(t, l.Client, f.At(port), l.Server, f.At(port))
}

// join returns both ends of a connection from one host to another, which listens at an
// address that the first may know by another.
func join(t *testing.T, from *netlab.Namespace, to string, on *netlab.Namespace, at string) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := on.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), labTimeout)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(labTimeout))
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, conn := range []net.Conn{c, s} {
		conn.SetDeadline(time.Now().Add(labTimeout))
		conn.(*net.TCPConn).SetKeepAlive(false)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// echo sends a word in each direction of a connection, or ends the test.
func echo(t *testing.T, client, server net.Conn) {
	t.Helper()
	if err := exchange(client, server); err != nil {
		t.Fatal(err)
	}
}

// exchange sends a word in each direction of a connection.
func exchange(client, server net.Conn) error {
	const word = "natplane"
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		buf := make([]byte, len(word))
		if _, err := way[0].Write([]byte(word)); err != nil {
			return err
		}
		if n, err := io.ReadFull(way[1], buf); err != nil || string(buf[:n]) != word {
			return fmt.Errorf("received %q, error %w, want %q", buf[:n], err, word)
		}
	}
	return nil
}

// rawSocket returns a function that sends whole packets of one family from a
// host, whatever their source.
func rawSocket(t *testing.T, from *netlab.Namespace, f Family) (send func(pkt []byte)) {
	t.Helper()
	domain, to := unix.AF_INET, unix.Sockaddr(nil)
	if f.Server.Is6() {
		domain = unix.AF_INET6
	}
	var fd int
	if err := from.Do(func() (err error) {
		fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(pkt []byte) {
		t.Helper()
		if domain == unix.AF_INET {
			to = &unix.SockaddrInet4{Addr: [4]byte(pkt[16:20])}
		} else {
			to = &unix.SockaddrInet6{Addr: [16]byte(pkt[24:40])}
		}
		if err := unix.Sendto(fd, pkt, 0, to); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits until a claim is true.
func eventually(t *testing.T, what string, claim func() bool) {
	t.Helper()
	for deadline := time.Now().Add(labTimeout); !claim(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", labTimeout, what)
		}
	}
}
