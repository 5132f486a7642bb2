// The clients of a lab: what the servers of Serve are asked, and whether the
// answers are true.

package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// labTimeout bounds a conversation of a client, on a machine that has other things
// to do as well.
const labTimeout = 2 * time.Minute

// Dial connects from the client host, as Namespace.DialContext does. It waits while
// the kernel has no port left towards the address: short connections keep theirs
// in TIME_WAIT if the client closed first.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	for {
		conn, err := l.Client.DialContext(ctx, network, address)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) || ctx.Err() != nil {
			return conn, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Browser returns an HTTP client on the client host, which gives every request a
// connection of its own or keeps one alive. Its idle connections are the caller's
// to close.
func (l *Lab) Browser(keepAlive bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: l.Dial, DisableKeepAlives: !keepAlive},
		Timeout:   labTimeout,
	}
}

// Download fetches n bytes from the server and reports what was wrong with them,
// or with whom the server saw.
func (f Family) Download(ctx context.Context, c *http.Client, n int64) error {
	resp, err := f.do(ctx, c, http.MethodGet, fmt.Sprintf("/bytes?n=%d", n), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := Sum(resp.Body)
	return errors.Join(err, sameSum(got, n))
}

// Upload sends n bytes to the server and reports what was wrong with those that
// arrived, or with whom the server saw.
func (f Family) Upload(ctx context.Context, c *http.Client, n int64) error {
	resp, err := f.do(ctx, c, http.MethodPost, "/sum", Content(n))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return errors.Join(err, sameSum(string(got), n))
}

// do makes a request and checks all of the response but its body.
func (f Family) do(ctx context.Context, c *http.Client, method, page string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.At(PortHTTP)+page, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, req.URL, resp.Status)
	}
	if err = errors.Join(err, f.Translated(resp.Header.Get("Client-Address"))); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// sameSum compares a checksum with that of n bytes of Content.
func sameSum(got string, n int64) error {
	if want, _ := Sum(Content(n)); got != want {
		return fmt.Errorf("the checksum of %d bytes is %q, want %s", n, got, want)
	}
	return nil
}

// Lookup asks the DNS server over UDP for a name that ends in a dot and reports
// what was wrong with the answer, or with whom the server saw. dialed, if not nil,
// is called with the socket of every question.
func (l *Lab) Lookup(ctx context.Context, f Family, name string, dialed func(net.Conn)) error {
	return l.LookupOver(ctx, "udp", f, name, dialed)
}

// LookupOver is Lookup over a network, "udp" or "tcp".
func (l *Lab) LookupOver(ctx context.Context, network string, f Family, name string, dialed func(net.Conn)) error {
	ctx, cancel := context.WithTimeout(ctx, labTimeout)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := l.Dial(ctx, network, f.At(PortDNS))
		if err == nil && dialed != nil {
			dialed(c)
		}
		return c, err
	}}
	answer, err := r.LookupTXT(ctx, name)
	if err != nil {
		return err
	}
	var seen string
	if len(answer) == 1 {
		seen, _ = strings.CutPrefix(answer[0], strings.TrimSuffix(name, "."))
	}
	if err := f.Translated(seen); err != nil {
		return fmt.Errorf("%s: answer %q: %w", name, answer, err)
	}
	return nil
}
