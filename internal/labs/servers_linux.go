// The servers of a lab: HTTP, DNS and UDP echo, over both address families.

package labs

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// Where Serve listens.
const (
	PortHTTP = 80
	PortDNS  = 53
	PortEcho = 7
)

// Serve runs an HTTP server, a DNS server over UDP and TCP, and a UDP echo (RFC
// 862) on both addresses of the server until the test ends. The web has two pages:
//
//	GET  /bytes?n=N  N bytes that [Content] also gives
//	POST /sum        the SHA-256 of the body, in hexadecimal
//
// Every answer tells in the header Client-Address whom the server saw. DNS
// answers every TXT question by the name asked for and the address of the client.
func (l *Lab) Serve(tb netlab.TB) {
	tb.Helper()
	for _, f := range Families {
		ln, err := l.Server.Listen("tcp", f.At(PortHTTP))
		if err != nil {
			tb.Fatalf("labs: %v", err)
		}
		serveWeb(tb, ln, "")
		dns, err := l.Server.Listen("tcp", f.At(PortDNS))
		if err != nil {
			tb.Fatalf("labs: %v", err)
		}
		tb.Cleanup(func() { dns.Close() })
		go answerDNSOverTCP(dns)
		for port, answer := range map[uint16]func(net.PacketConn){PortDNS: answerDNS, PortEcho: echoUDP} {
			pc, err := l.Server.ListenPacket("udp", f.At(port))
			if err != nil {
				tb.Fatalf("labs: %v", err)
			}
			tb.Cleanup(func() { pc.Close() })
			go answer(pc)
		}
	}
}

// serveWeb runs the HTTP server of Serve until the test ends. name is what it calls itself.
func serveWeb(tb netlab.TB, ln net.Listener, name string) {
	srv := website(name)
	go srv.Serve(ln)
	tb.Cleanup(func() { srv.Close() })
}

// website returns the HTTP server of Serve, which calls itself by a name.
func website(name string) *http.Server {
	web := http.NewServeMux()
	web.HandleFunc("GET /bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Client-Address", r.RemoteAddr)
		w.Header().Set("Backend", name)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.Copy(w, Content(n)) // the client notices
	})
	web.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Client-Address", r.RemoteAddr)
		sum, err := Sum(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, sum)
	})
	return &http.Server{Handler: web, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
}

// Content returns a stream of n bytes that does not compress and is always the
// same.
func Content(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{}), n) }

// Sum reads r to its end and returns the SHA-256, in hexadecimal.
func Sum(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}

// received calls answer with every datagram that c receives until it is closed.
func received(c net.PacketConn, answer func(datagram []byte, from net.Addr)) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		switch {
		case err == nil:
			answer(buf[:n], from)
		case errors.Is(err, net.ErrClosed):
			return
		} // else such as a client that has gone: the kernel tells by ICMP
	}
}

// echoUDP returns every datagram to its sender until c is closed.
func echoUDP(c net.PacketConn) {
	received(c, func(datagram []byte, from net.Addr) { _, _ = c.WriteTo(datagram, from) })
}

// answerDNS answers questions over UDP until c is closed.
func answerDNS(c net.PacketConn) {
	received(c, func(datagram []byte, from net.Addr) {
		if answer := dnsAnswer(datagram, from); answer != nil {
			_, _ = c.WriteTo(answer, from)
		}
	})
}

// answerDNSOverTCP answers questions over TCP until ln is closed (RFC 1035 section
// 4.2.2).
func answerDNSOverTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(labTimeout))
			for {
				var length [2]byte
				if _, err := io.ReadFull(c, length[:]); err != nil {
					return
				}
				question := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(c, question); err != nil {
					return
				}
				answer := dnsAnswer(question, c.RemoteAddr())
				if answer == nil {
					return
				}
				if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
					return
				}
			}
		}()
	}
}

// dnsAnswer returns the answer to a TXT question of somebody, nil for anything
// else (RFC 1035).
func dnsAnswer(question []byte, from net.Addr) []byte {
	var m layers.DNS
	if m.DecodeFromBytes(question, gopacket.NilDecodeFeedback) != nil || len(m.Questions) != 1 || m.Questions[0].Type != layers.DNSTypeTXT {
		return nil
	}
	q := m.Questions[0]
	m.QR, m.RA, m.Additionals = true, true, nil
	m.Answers = []layers.DNSResourceRecord{{
		Name: q.Name, Type: q.Type, Class: q.Class, TTL: 30,
		TXTs: [][]byte{q.Name, []byte(fmt.Sprint(from))},
	}}
	out := gopacket.NewSerializeBuffer()
	if m.SerializeTo(out, gopacket.SerializeOptions{FixLengths: true}) != nil {
		return nil
	}
	return out.Bytes()
}
