//go:build linux

package story

// The clients of the recording and what they say.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// Addresses of the clients. Each becomes a pod when the capture is replayed.
const (
	shop, shop6     = "192.0.2.11", "2001:db8:c::11" // web client: look-ups, keep-alive and short connections
	batch           = "192.0.2.12"                   // downloads
	worker, worker6 = "192.0.2.13", "2001:db8:c::13" // TLS and QUIC
	poller          = "192.0.2.14"                   // one connection per request, refused and reset ones
	session         = "192.0.2.15"                   // database client that goes quiet
	session6        = "2001:db8:c::15"
)

var clientAddrs = []string{shop, shop6, batch, worker, worker6, poller, session, session6}

// clients is where the clients are, and the connections that they leave open.
type clients struct {
	in *netlab.Namespace

	mu   sync.Mutex
	idle []net.Conn // guarded by mu
}

// converse holds all conversations, those of different clients at the same time.
func (c *clients) converse(ctx context.Context) error {
	groups := []func() error{
		func() error { return c.browse(ctx, shop, dns4, "http://"+hostPort(web4, 80)) },
		func() error { return c.browse(ctx, shop6, dns6, "http://"+hostPort(web6, 80)) },
		func() error {
			return errors.Join(c.lookup(ctx, batch, dns4, "files.example"),
				c.fetch(ctx, batch, "http://"+hostPort(files, 80), "/download"))
		},
		func() error {
			return errors.Join(c.lookup(ctx, worker, dns4, "api.example"),
				c.fetch(ctx, worker, "https://"+hostPort(web4, 443), "/", "/account"),
				c.fetch(ctx, worker, "https://"+hostPort(api, 443), "/v1/items"),
				c.datagrams(ctx, worker))
		},
		func() error {
			return errors.Join(c.lookup(ctx, worker6, dns6, "api.example"),
				c.fetch(ctx, worker6, "https://"+hostPort(web6, 443), "/", "/account"))
		},
		func() error { return c.poll(ctx) },
		func() error { return c.goQuiet(ctx, session, hostPort(database4, 5432)) },
		func() error {
			return errors.Join(c.lookup(ctx, session6, dns6, "db.example"), c.goQuiet(ctx, session6, hostPort(database6, 5432)))
		},
	}
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, hold := range groups {
		wg.Go(func() { errs[i] = hold() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close ends the idle connections.
func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		_ = conn.Close()
	}
}

// dial connects from one client's address.
func (c *clients) dial(ctx context.Context, from, network, to string) (conn net.Conn, err error) {
	var d net.Dialer
	if ip := net.ParseIP(from); network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: ip}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	err = c.in.Do(func() (err error) {
		conn, err = d.DialContext(ctx, network, to)
		return err
	})
	return conn, err
}

// lookup resolves names with Go's own resolver: an A and an AAAA query each.
func (c *clients) lookup(ctx context.Context, from, server string, names ...string) error {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.dial(ctx, from, "udp", hostPort(server, 53))
	}}
	for _, name := range names {
		if _, err := r.LookupHost(ctx, name+"."); err != nil {
			return err
		}
		time.Sleep(15 * time.Millisecond)
	}
	return nil
}

// fetch gets the paths one after the other over one connection, then closes it.
func (c *clients) fetch(ctx context.Context, from, base string, paths ...string) error {
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.dial(ctx, from, network, addr)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificate is minutes old
	}
	defer t.CloseIdleConnections()
	for _, p := range paths {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+p, nil)
		if err != nil {
			return err
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		time.Sleep(60 * time.Millisecond)
	}
	return nil
}

// browse looks names up, uses one kept-alive connection, then short ones.
func (c *clients) browse(ctx context.Context, from, dns, base string) error {
	err := errors.Join(
		c.lookup(ctx, from, dns, "shop.example", "static.example", "img.example", "pay.example"),
		c.fetch(ctx, from, base, "/", "/style", "/script", "/basket", "/basket/pay", "/thanks"))
	for range 5 {
		err = errors.Join(err, c.lookup(ctx, from, dns, "shop.example"), c.fetch(ctx, from, base, "/stock"))
	}
	return err
}

// poll asks again and again over new connections, and meets a closed port and
// a server that hangs up.
func (c *clients) poll(ctx context.Context) error {
	var err error
	for range 10 {
		err = errors.Join(err, c.lookup(ctx, poller, dns4, "queue.example"), c.fetch(ctx, poller, "http://"+hostPort(web4, 80), "/queue"))
	}
	if _, refused := c.dial(ctx, poller, "tcp", closed); !errors.Is(refused, syscall.ECONNREFUSED) {
		err = errors.Join(err, fmt.Errorf("dial %s: got %v, want a refusal", closed, refused))
	}
	conn, dialErr := c.dial(ctx, poller, "tcp", hostPort(hangup, 9000))
	if dialErr != nil {
		return errors.Join(err, dialErr)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "hello\n")
	if _, reset := io.ReadAll(conn); !errors.Is(reset, syscall.ECONNRESET) {
		err = errors.Join(err, fmt.Errorf("read from %s: got %v, want a reset", hangup, reset))
	}
	return err
}

// datagrams exchanges full-size UDP datagrams with the QUIC-like server.
func (c *clients) datagrams(ctx context.Context, from string) error {
	conn, err := c.dial(ctx, from, "udp", hostPort(quic, 443))
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 1500)
	for range 15 {
		if _, err := io.WriteString(conn, text(1200)); err != nil {
			return err
		}
		if _, err := conn.Read(answer); err != nil {
			return err
		}
		time.Sleep(4 * time.Millisecond)
	}
	return nil
}

// goQuiet opens a connection, uses it once and leaves it open without a word.
func (c *clients) goQuiet(ctx context.Context, from, to string) error {
	conn, err := c.dial(ctx, from, "tcp", to)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.idle = append(c.idle, conn)
	c.mu.Unlock()
	if _, err := io.WriteString(conn, "select now();"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 64))
	return err
}
