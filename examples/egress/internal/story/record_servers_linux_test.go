//go:build linux

package story

// The servers of the recording: web, TLS, downloads, DNS, a QUIC-like UDP
// service, a quiet database and a service that hangs up.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// Addresses of the servers, all out of the ranges reserved for documentation
// (RFC 5737, RFC 3849).
const (
	web4, web6     = "203.0.113.10", "2001:db8:80::10"
	files          = "203.0.113.20"
	quic           = "203.0.113.40"
	hangup         = "203.0.113.70"
	dns4, dns6     = "198.51.100.53", "2001:db8:53::53"
	api            = "198.51.100.30"
	database4      = "198.51.100.60"
	database6      = "2001:db8:60::60"
	closed         = "198.51.100.60:8080" // nobody listens here
	downloadLength = 300 << 10
)

var serverAddrs = []string{web4, web6, files, quic, hangup, dns4, dns6, api, database4, database6}

// serve runs all servers until the test ends.
func serve(t *testing.T, in *netlab.Namespace) {
	handler := http.NewServeMux()
	handler.HandleFunc("/download", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(downloadLength))
		_, _ = io.WriteString(w, text(downloadLength))
	})
	handler.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(8 * time.Millisecond) // a server that has to think
		_, _ = io.WriteString(w, text(400+len(r.URL.Path)*37))
	})
	web := func(l net.Listener) error { return http.Serve(l, handler) }
	tlsConfig := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"http/1.1"}}
	secure := func(l net.Listener) error { return web(tls.NewListener(l, tlsConfig)) }
	for addr, accept := range map[string]func(net.Listener) error{
		hostPort(web4, 80):        web,
		hostPort(web6, 80):        web,
		hostPort(files, 80):       web,
		hostPort(web4, 443):       secure,
		hostPort(web6, 443):       secure,
		hostPort(api, 443):        secure,
		hostPort(database4, 5432): func(l net.Listener) error { return each(l, echoOnce) },
		hostPort(database6, 5432): func(l net.Listener) error { return each(l, echoOnce) },
		hostPort(hangup, 9000):    func(l net.Listener) error { return each(l, hangUp) },
	} {
		l, err := in.Listen("tcp", addr)
		require.NoError(t, err)
		until(t, l, func() error { return accept(l) })
	}
	for addr, answer := range map[string]func(net.PacketConn) error{
		hostPort(dns4, 53):  answerDNS,
		hostPort(dns6, 53):  answerDNS,
		hostPort(quic, 443): answerQUIC,
	} {
		c, err := in.ListenPacket("udp", addr)
		require.NoError(t, err)
		until(t, c, func() error { return answer(c) })
	}
}

// until runs a server until the end of the test closes its socket.
func until(t *testing.T, socket io.Closer, server func() error) {
	done := make(chan error, 1)
	go func() { done <- server() }()
	t.Cleanup(func() {
		assert.NoError(t, socket.Close())
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("server: %v", err)
		}
	})
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// text returns n bytes of readable filler.
func text(n int) string {
	const line = "Every port that leaves the cluster has to find its way back to one pod.\n"
	return strings.Repeat(line, n/len(line)+1)[:n]
}

// certificate makes a fresh self-signed certificate.
func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "natplane recording"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"web.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// each serves every connection of l on its own.
func each(l net.Listener, serve func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go serve(c)
	}
}

// echoOnce answers once and then keeps the connection open for ever.
func echoOnce(c net.Conn) {
	buf := make([]byte, 512)
	if n, err := c.Read(buf); err == nil {
		_, _ = c.Write(buf[:n])
	}
	_, _ = c.Read(buf)
}

// hangUp reads a request and ends the connection by a RST.
func hangUp(c net.Conn) {
	_, _ = c.Read(make([]byte, 512))
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// answerDNS gives every A and AAAA question a fixed address (RFC 1035).
func answerDNS(c net.PacketConn) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		var m layers.DNS
		if m.DecodeFromBytes(buf[:n], gopacket.NilDecodeFeedback) != nil || len(m.Questions) != 1 {
			continue
		}
		m.QR, m.RA, m.Additionals = true, true, nil
		q := m.Questions[0]
		rr := layers.DNSResourceRecord{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 30}
		switch q.Type {
		case layers.DNSTypeA:
			rr.IP = net.ParseIP(web4)
		case layers.DNSTypeAAAA:
			rr.IP = net.ParseIP(web6)
		default:
			continue
		}
		m.Answers = []layers.DNSResourceRecord{rr}
		out := gopacket.NewSerializeBuffer()
		if err := m.SerializeTo(out, gopacket.SerializeOptions{FixLengths: true}); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
		if _, err := c.WriteTo(out.Bytes(), from); err != nil {
			return err
		}
	}
}

// answerQUIC sends a full datagram back for every one it gets, and a short
// acknowledgment after every second.
func answerQUIC(c net.PacketConn) error {
	buf := make([]byte, 1500)
	for i := 0; ; i++ {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(buf[:n], from); err != nil {
			return err
		}
		if i%2 == 1 {
			if _, err := c.WriteTo(buf[:40], from); err != nil {
				return err
			}
		}
	}
}
