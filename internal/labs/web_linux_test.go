package labs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

func TestLabKeepAlive(t *testing.T) {
	l, nat := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats().SessionsCreated
		c, sockets := l.counting(true)
		defer c.CloseIdleConnections()
		const requests = 300
		for i := range int64(requests) {
			if err := f.Download(t.Context(), c, 100*i); err != nil {
				t.Fatal(err)
			}
		}
		// A client that is kept waiting for long may open another connection.
		if dials, distinct := sockets.count(); dials > requests/10 {
			t.Errorf("%d connections for %d requests: they are not kept alive", dials, requests)
		} else if n := int(nat.Stats().SessionsCreated - before); n < distinct || n > dials {
			t.Errorf("%d sessions for %d connections from %d sockets", n, dials, distinct)
		}
	})
}

// Every connection is short. The kernel that draws the client's ports may draw one
// again: the SYN then reopens the session of the old connection, which is about to
// end, and keeps its outside port.
func TestLabShortConnections(t *testing.T) {
	const clients, few = 8, 60
	for _, tt := range []struct {
		name, ports string
		each        int // connections of each client
	}{
		{"ports of the kernel's choice", "", sized(125, few)},
		{"client with few ports", "40000 40099", few},
	} {
		t.Run(tt.name, func(t *testing.T) {
			families(t, func(t *testing.T, f Family) {
				l, nat := start(t, snat.Policy{}, allPorts)
				l.Serve(t)
				if tt.ports != "" {
					l.Client.Sysctl("net.ipv4.ip_local_port_range", tt.ports)
				}
				c, sockets := l.counting(false)
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for range tt.each {
							if err := f.Download(t.Context(), c, 2000); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				dials, distinct := sockets.count()
				s := nat.Stats()
				if n := int(s.SessionsCreated); n < distinct || n > dials || s.ConnectionsFailed != 0 {
					t.Errorf("%d sessions, %d refused, want none refused and a session for each of %d sockets, at most one for each of %d connections",
						n, s.ConnectionsFailed, distinct, dials)
				}
				if tt.ports != "" && distinct > 100 {
					t.Errorf("%d sockets, the client has 100 ports", distinct)
				}
				// A port waits for its destination after the end of a connection:
				// 240 s after FIN, 15 s after RST.
				eventually(t, "every connection has ended, and those not yet forgotten hold a port each", func() bool {
					active, held := 0, 0
					for _, inst := range nat.Instances() {
						for _, p := range inst.Pools {
							active, held = active+p.Active, held+p.Held()
						}
					}
					s := nat.Stats()
					return active == 0 && held == s.SessionsActive && s.SessionsCreated == s.SessionsEnded+uint64(held)
				})
				if s := nat.Stats(); s.SessionsEnded != s.Expired[flow.ClassTCPClosing]+s.Expired[flow.ClassTCPTimeWait]+s.Expired[flow.ClassTCPReset] {
					t.Errorf("sessions have ended before their connections: %d of them, by class %v", s.SessionsEnded, s.Expired)
				}
			})
		})
	}
}

func TestLabBulk(t *testing.T) {
	size := int64(sized(100, 32)) << 20
	l, _ := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f Family) {
		c := l.Browser(true)
		c.Timeout = 0 // a slow machine needs its time
		defer c.CloseIdleConnections()
		began := time.Now()
		if err := f.Download(t.Context(), c, size); err != nil {
			t.Error("download:", err)
		}
		down := time.Since(began)
		began = time.Now()
		if err := f.Upload(t.Context(), c, size); err != nil {
			t.Error("upload:", err)
		}
		t.Logf("%d MiB: down in %v, up in %v", size>>20, down.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	})
}

func TestLabTLS(t *testing.T) {
	l, _ := start(t, snat.Policy{}, allPorts)
	families(t, func(t *testing.T, f Family) {
		cert, pool := certificate(t, f.Server)
		ln, err := l.Server.Listen("tcp", f.At(443))
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.RemoteAddr)
		})}
		go srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}))
		defer srv.Close()
		c := l.Browser(false)
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
		for range 20 {
			resp, err := c.Get("https://" + f.At(443))
			if err != nil {
				t.Fatal(err)
			}
			seen, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err := errors.Join(err, f.Translated(string(seen))); err != nil {
				t.Error(err)
			}
		}
	})
}

// certificate makes a self-signed certificate for an address and a pool that
// trusts it.
func certificate(t *testing.T, host netip.Addr) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{host.AsSlice()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
