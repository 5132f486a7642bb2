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

	"github.com/seed-a61be3fe/natplane/snat"
)

func TestLabKeepAlive(t *testing.T) {
	l, nat := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats().SessionsCreated
		c := l.Browser(true)
		defer c.CloseIdleConnections()
		for i := range int64(300) {
			if err := f.Download(t.Context(), c, 100*i); err != nil {
				t.Fatal(err)
			}
		}
		if n := nat.Stats().SessionsCreated - before; n != 1 {
			t.Errorf("300 requests took %d connections, want 1", n)
		}
	})
}

func TestLabShortConnections(t *testing.T) {
	l, nat := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	const clients, each = 8, 125
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats().SessionsCreated
		c := l.Browser(false)
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range each {
					if err := f.Download(t.Context(), c, 2000); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		s := nat.Stats()
		if n := s.SessionsCreated - before; n != clients*each || s.ConnectionsFailed != 0 {
			t.Errorf("%d sessions, %d refused, want %d and 0", n, s.ConnectionsFailed, clients*each)
		}
		// A port waits 240 s after FIN for its destination, so none was used twice.
		eventually(t, "every connection has ended and holds its port", func() bool {
			for _, inst := range nat.Instances() {
				for _, p := range inst.Pools {
					if p.Protocol == snat.TCP && p.Is6 == f.Server.Is6() {
						return p.Held == clients*each && p.Used == 0
					}
				}
			}
			return false
		})
	})
}

func TestLabBulk(t *testing.T) {
	const size = int64(100 << 20)
	l, _ := start(t, snat.Policy{}, allPorts)
	l.Serve(t)
	families(t, func(t *testing.T, f Family) {
		c := l.Browser(true)
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
