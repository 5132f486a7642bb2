package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/labs"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// answerA answers every DNS question with one address record, 192.0.2.53, over TCP
// and UDP (RFC 1035).
func answerA(t *testing.T, web *netlab.Namespace, at string) {
	t.Helper()
	answer := func(question []byte) []byte {
		end := 12 // of the header, then of the name
		for end < len(question) && question[end] != 0 {
			end += 1 + int(question[end])
		}
		if end += 5; end > len(question) {
			return nil
		}
		reply := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, question[12:end]...)
		return append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53)
	}
	pc, err := web.ListenPacket("udp", at)
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	go func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(answer(buf[:n]), from)
		}
	}()
	ln, err := web.Listen("tcp", at)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				question := make([]byte, 2+1500)
				if n, err := io.ReadAtLeast(c, question, 2+12); err == nil {
					reply := answer(question[2:n])
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
				}
			}()
		}
	}()
}

// The programs that people use, through the gateway, and what the outside sees of
// them: every checksum right, and no address of the inside, also in what ICMP
// errors quote.
func TestGatewayAgainstTools(t *testing.T) {
	host, _, web, _, _ := network(t, []string{"-icmp", "-fragments"}, "curl", "dig", "ping", "traceroute", "iperf3", "nmap", "tshark")
	web.Sysctl("net.ipv4.icmp_ratelimit", "0") // every probe shall be answered
	web.Sysctl("net.ipv6.icmp.ratelimit", "0")
	capture := labs.NewCapture(web, "eth0", filepath.Join(t.TempDir(), "outside.pcap"))
	for _, f := range []struct{ name, option, web, frontend string }{
		{"IPv4", "-4", "192.0.2.2", "198.51.100.1"},
		{"IPv6", "-6", "2001:db8:1::2", "2001:db8:f::1"},
	} {
		ln, err := web.Listen("tcp", net.JoinHostPort(f.web, "80"))
		require.NoError(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "you are", r.RemoteAddr, strings.Repeat("natplane", 10_000))
		})}
		go srv.Serve(ln)
		defer srv.Close()
		answerA(t, web, net.JoinHostPort(f.web, "53"))
		web.Launch("Server listening", "iperf3", "-s", "--forceflush", "-B", f.web)

		for _, tool := range []struct{ line, want string }{
			{"curl -sS -m 100 http://" + net.JoinHostPort(f.web, "80"), "you are " + strings.TrimSuffix(net.JoinHostPort(f.frontend, "1"), "1")},
			{"dig +short +tries=10 +timeout=60 @" + f.web + " example.com", "192.0.2.53\n"},
			{"dig +short +tries=10 +timeout=60 +tcp @" + f.web + " example.com", "192.0.2.53\n"},
			{"ping -n -c 3 -i 0.05 -W 60 " + f.web, " bytes from " + f.web},
			{"ping -n -c 3 -i 0.05 -W 60 -s 4000 " + f.web, " bytes from " + f.web}, // in fragments
			// The router counts twice, before the gateway and behind it.
			{"traceroute " + f.option + " -n -q 1 -N 1 -w 5 -f 3 -m 6 " + f.web, " " + f.web + "  "},
			{"traceroute " + f.option + " -n -q 1 -N 1 -w 5 -f 3 -m 6 -I " + f.web, " " + f.web + "  "},
			{"iperf3 -c " + f.web + " -P 4 -n 512K", "iperf Done."},
			{"iperf3 -c " + f.web + " -P 4 -n 512K -R", "iperf Done."},
			{"iperf3 -c " + f.web + " -u -l 4000 -b 10M -n 400K", "iperf Done."}, // in fragments
			{"nmap " + strings.TrimPrefix(f.option, "-4") + " -n -Pn --max-retries 10 --initial-rtt-timeout 10s --max-rtt-timeout 60s -oG - -sS -p 79-81 " + f.web, "79/closed/tcp//finger///, 80/open/tcp//http///, 81/closed/tcp"},
			{"nmap " + strings.TrimPrefix(f.option, "-4") + " -n -Pn --max-retries 10 --initial-rtt-timeout 10s --max-rtt-timeout 60s -oG - -sU -p 9 " + f.web, "9/closed/udp"},
		} {
			out, err := host.Try(tool.line)
			// The server of iperf3 takes one client at a time, and a while to be ready for the
			// next; traceroute sometimes misses answers that come within microseconds.
			again := func() bool {
				return strings.Contains(out, "iperf3: error - ") || strings.HasPrefix(tool.line, "traceroute ") && !strings.Contains(out, tool.want)
			}
			for tries := 1; again() && tries < 20; tries++ {
				time.Sleep(100 * time.Millisecond)
				out, err = host.Try(tool.line)
			}
			if err != nil || !strings.Contains(out, tool.want) {
				t.Errorf("%s: %v\n%s\nwant %q", tool.line, err, out, tool.want)
			}
		}
	}
	capture.Stop()

	inside := "ip.addr==10.0.0.0/24||ipv6.addr==fd00::/64" // in headers, and in quotes
	if packets := capture.Packets("-e frame.protocols -e ip.src -e ipv6.src -Y " + labs.Wrong + "||" + inside); len(packets) > 0 {
		t.Errorf("%d packets with bad checksums, inside addresses or malformed:\n%s", len(packets), strings.Join(packets[:min(len(packets), 10)], ""))
	}
	all := capture.Packets("-e frame.protocols -e icmp.type -e icmpv6.type -e ip.flags.mf")
	for _, want := range []string{`:tcp`, `:udp`, `:icmp\S*\t8\t`, `:icmpv6\S*\t\t128`, `:icmp:\S*\t3`, `:icmpv6:\S*\t\t1\t`, `\t(1|True)\n`, `ipv6\.fraghdr`} {
		assert.True(t, slices.ContainsFunc(all, regexp.MustCompile(want).MatchString), "the capture of %d packets must have some like %s", len(all), want)
	}
}
