// The servers of a lab: HTTP and DNS, over both address families.

package labs

import (
	"crypto/sha256"
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
)

// Serve runs an HTTP and a DNS server on both addresses of the server until the
// test ends. The web has two pages:
//
//	GET  /bytes?n=N  N bytes that [Content] also gives
//	POST /sum        the SHA-256 of the body, in hexadecimal
//
// Every answer tells in the header Client-Address whom the server saw. DNS
// answers every TXT question by the name asked for and the address of the client.
func (l *Lab) Serve(tb netlab.TB) {
	tb.Helper()
	web := http.NewServeMux()
	web.HandleFunc("GET /bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Client-Address", r.RemoteAddr)
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
	for _, f := range Families {
		ln, err := l.Server.Listen("tcp", f.At(PortHTTP))
		if err != nil {
			tb.Fatalf("labs: %v", err)
		}
		srv := &http.Server{Handler: web, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
		go srv.Serve(ln)
		tb.Cleanup(func() { srv.Close() })
		pc, err := l.Server.ListenPacket("udp", f.At(PortDNS))
		if err != nil {
			tb.Fatalf("labs: %v", err)
		}
		go answerDNS(pc)
		tb.Cleanup(func() { pc.Close() })
	}
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

// answerDNS answers TXT questions until c is closed (RFC 1035).
func answerDNS(c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // such as a client that has gone: the kernel tells by ICMP
		}
		var m layers.DNS
		if m.DecodeFromBytes(buf[:n], gopacket.NilDecodeFeedback) != nil || len(m.Questions) != 1 || m.Questions[0].Type != layers.DNSTypeTXT {
			continue
		}
		q := m.Questions[0]
		m.QR, m.RA, m.Additionals = true, true, nil
		m.Answers = []layers.DNSResourceRecord{{
			Name: q.Name, Type: q.Type, Class: q.Class, TTL: 30,
			TXTs: [][]byte{q.Name, []byte(fmt.Sprint(from))},
		}}
		out := gopacket.NewSerializeBuffer()
		if m.SerializeTo(out, gopacket.SerializeOptions{FixLengths: true}) == nil {
			_, _ = c.WriteTo(out.Bytes(), from)
		}
	}
}
