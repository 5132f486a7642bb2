//go:build linux

// The clients of the recording and what they say.

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
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

// converse holds all conversations, a group per client at the same time, then
// reports ready and keeps the idle connections open until it is interrupted.
func converse(ctx context.Context) error {
	groups := []func(context.Context) error{
		func(ctx context.Context) error { return browse(ctx, shop, dns4, "http://"+hostPort(web4, 80)) },
		func(ctx context.Context) error { return browse(ctx, shop6, dns6, "http://"+hostPort(web6, 80)) },
		func(ctx context.Context) error {
			return errors.Join(lookup(ctx, batch, dns4, "files.example"),
				fetch(ctx, batch, "http://"+hostPort(files, 80), "/download"))
		},
		func(ctx context.Context) error {
			return errors.Join(lookup(ctx, worker, dns4, "api.example"),
				fetch(ctx, worker, "https://"+hostPort(web4, 443), "/", "/account"),
				fetch(ctx, worker, "https://"+hostPort(api, 443), "/v1/items"),
				datagrams(ctx, worker))
		},
		func(ctx context.Context) error {
			return errors.Join(lookup(ctx, worker6, dns6, "api.example"),
				fetch(ctx, worker6, "https://"+hostPort(web6, 443), "/", "/account"))
		},
		poll,
		func(ctx context.Context) error { return goQuiet(ctx, session, hostPort(database4, 5432)) },
		func(ctx context.Context) error {
			return errors.Join(lookup(ctx, session6, dns6, "db.example"), goQuiet(ctx, session6, hostPort(database6, 5432)))
		},
	}
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = g(ctx) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println(ready)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
	return nil
}

// dialer connects from one client address and never sends a keep-alive.
func dialer(from string, network string) *net.Dialer {
	d := &net.Dialer{KeepAlive: -1}
	if ip := net.ParseIP(from); network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: ip}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	return d
}

// lookup resolves names with Go's own resolver: an A and an AAAA query each.
func lookup(ctx context.Context, from, server string, names ...string) error {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer(from, "udp").DialContext(ctx, "udp", hostPort(server, 53))
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
func fetch(ctx context.Context, from, base string, paths ...string) error {
	t := &http.Transport{
		DialContext:     dialer(from, "tcp").DialContext,
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
func browse(ctx context.Context, from, dns, base string) error {
	err := errors.Join(
		lookup(ctx, from, dns, "shop.example", "static.example", "img.example", "pay.example"),
		fetch(ctx, from, base, "/", "/style", "/script", "/basket", "/basket/pay", "/thanks"))
	for range 5 {
		err = errors.Join(err, lookup(ctx, from, dns, "shop.example"), fetch(ctx, from, base, "/stock"))
	}
	return err
}

// poll asks again and again over new connections, and meets a closed port and
// a server that hangs up.
func poll(ctx context.Context) error {
	var err error
	for range 10 {
		err = errors.Join(err, lookup(ctx, poller, dns4, "queue.example"), fetch(ctx, poller, "http://"+hostPort(web4, 80), "/queue"))
	}
	if _, refused := dialer(poller, "tcp").DialContext(ctx, "tcp", closed); !errors.Is(refused, syscall.ECONNREFUSED) {
		err = errors.Join(err, fmt.Errorf("dial %s: got %v, want a refusal", closed, refused))
	}
	c, dialErr := dialer(poller, "tcp").DialContext(ctx, "tcp", hostPort(hangup, 9000))
	if dialErr != nil {
		return errors.Join(err, dialErr)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "hello\n")
	if _, reset := io.ReadAll(c); !errors.Is(reset, syscall.ECONNRESET) {
		err = errors.Join(err, fmt.Errorf("read from %s: got %v, want a reset", hangup, reset))
	}
	return err
}

// datagrams exchanges full-size UDP datagrams with the QUIC-like server.
func datagrams(ctx context.Context, from string) error {
	c, err := dialer(from, "udp").DialContext(ctx, "udp", hostPort(quic, 443))
	if err != nil {
		return err
	}
	defer c.Close()
	answer := make([]byte, 1500)
	for range 15 {
		if _, err := io.WriteString(c, text(1200)); err != nil {
			return err
		}
		if _, err := c.Read(answer); err != nil {
			return err
		}
		time.Sleep(4 * time.Millisecond)
	}
	return nil
}

// quiet keeps the idle connections from being closed by the garbage collector.
var quiet struct {
	sync.Mutex
	conns []net.Conn
}

// goQuiet opens a connection, uses it once and leaves it open without a word.
func goQuiet(ctx context.Context, from, to string) error {
	c, err := dialer(from, "tcp").DialContext(ctx, "tcp", to)
	if err != nil {
		return err
	}
	quiet.Lock()
	quiet.conns = append(quiet.conns, c)
	quiet.Unlock()
	if _, err := io.WriteString(c, "select now();"); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 64))
	return err
}
