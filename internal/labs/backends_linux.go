// Backends: more hosts inside, which the client's host is the router of.

package labs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// Backends makes so many hosts, at most 100, behind the client's, which nobody outside can
// reach but by a frontend, and runs the HTTP server of [Lab.Serve] on both addresses of each
// until the test ends. Every answer tells in the header
// Backend the name of the host, "backend0" and so on.
func (l *Lab) Backends(tb netlab.TB, n int) {
	tb.Helper()
	l.Client.Sysctl("net.ipv4.ip_forward", "1")
	l.Client.Sysctl("net.ipv6.conf.all.forwarding", "1")
	for i := range n {
		b := l.Net.Namespace(fmt.Sprint("backend", i))
		var gateway, own []string
		for _, f := range Families {
			host := f.Backend(i)
			bits := host.BitLen() - 8
			gateway = append(gateway, fmt.Sprintf("%v/%d", host.Prev(), bits))
			own = append(own, fmt.Sprintf("%v/%d", host, bits))
		}
		l.Net.Veth(netlab.End{In: l.Client, Dev: fmt.Sprint("to", i), Addrs: gateway}, netlab.End{In: b, Dev: "eth0", Addrs: own})
		b.Run(fmt.Sprintf("ip route add default via %v", IPv4.Backend(i).Prev()))
		b.Run(fmt.Sprintf("ip -6 route add default via %v", IPv6.Backend(i).Prev()))
		for _, f := range Families {
			ln, err := b.Listen("tcp", netip.AddrPortFrom(f.Backend(i), PortHTTP).String())
			if err != nil {
				tb.Fatalf("labs: %v", err)
			}
			serveWeb(tb, ln, b.Name())
		}
	}
}

// Visitor returns an HTTP client on the server host, which begins connections from outside.
// Its idle connections are the caller's to close.
func (l *Lab) Visitor(keepAlive bool) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.Server.DialContext(ctx, network, address)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: !keepAlive}, Timeout: labTimeout}
}

// Visit fetches n bytes from a frontend's socket and returns which backend has answered. It
// reports what was wrong with them, or with whom the backend saw: the visitor itself.
func (f Family) Visit(ctx context.Context, c *http.Client, frontend netip.AddrPort, n int64) (backend string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%v/bytes?n=%d", frontend, n), nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	if seen, parseErr := netip.ParseAddrPort(resp.Header.Get("Client-Address")); parseErr != nil || seen.Addr() != f.Server {
		err = errors.Join(err, fmt.Errorf("the backend saw %q, want %v", resp.Header.Get("Client-Address"), f.Server))
	}
	got, sumErr := Sum(resp.Body)
	return resp.Header.Get("Backend"), errors.Join(err, sumErr, sameSum(got, n))
}
