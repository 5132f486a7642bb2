package labs

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func TestAudit(t *testing.T) {
	const (
		pod, web, front = "10.244.0.9:5000", "203.0.113.80:80", "198.51.100.1:1024"
		pod6, web6      = "[fd00:244::9]:5000", "[2001:db8:80::80]:80"
		front6          = "[2001:db8:f::1]:1024"
	)
	for name, tt := range map[string]struct {
		to   flow.Side
		pkt  []byte
		want string // a part of the complaint; empty: none
	}{
		"outbound":             {flow.Outside, pkttest.TCP(front, web, pkttest.TCPFlags("S")), ""},
		"outbound over IPv6":   {flow.Outside, pkttest.UDP(front6, web6, "hello"), ""},
		"inbound":              {flow.Inside, pkttest.TCP(web, pod, pkttest.TCPFlags("SA")), ""},
		"inbound over IPv6":    {flow.Inside, pkttest.UDP(web6, pod6, "hello"), ""},
		"not translated":       {flow.Outside, pkttest.UDP(pod, web, ""), "10.244.0.9 is no frontend"},
		"not translated, v6":   {flow.Outside, pkttest.UDP(pod6, web6, ""), "fd00:244::9 is no frontend"},
		"inside address sent":  {flow.Outside, pkttest.UDP(front, pod, ""), "10.244.0.9 is an inside address"},
		"not translated back":  {flow.Inside, pkttest.UDP(web, front, ""), "198.51.100.1 is no inside address"},
		"unasked":              {flow.Inside, pkttest.UDP("203.0.113.99:80", pod, ""), "nobody has asked 203.0.113.99"},
		"hairpin":              {flow.Inside, pkttest.UDP(front, pod, ""), "198.51.100.1 is a frontend"},
		"transport checksum":   {flow.Outside, pkttest.UDP(front, web, "x", pkttest.BadChecksum()), "checksum"},
		"header checksum":      {flow.Outside, pkttest.UDP(front, web, "x", pkttest.Patch(8, 1)), "IPv4 header checksum"},
		"error to the outside": {flow.Outside, pkttest.ICMP("198.51.100.1", "203.0.113.80", 3, 3, 0, pkttest.UDP(web, front, "x")), ""},
		"error to the inside":  {flow.Inside, pkttest.ICMP("203.0.113.7", "10.244.0.9", 3, 3, 0, pkttest.UDP(pod, web, "x")), ""},
		"error over IPv6":      {flow.Inside, pkttest.ICMP("2001:db8:80::7", "fd00:244::9", 1, 4, 0, pkttest.UDP(pod6, web6, "x")), ""},
		"quote not translated": {flow.Outside, pkttest.ICMP("198.51.100.1", "203.0.113.80", 3, 3, 0, pkttest.UDP(web, pod, "x")), "quote, read backwards: the source 10.244.0.9"},
		"quote left as it was": {flow.Inside, pkttest.ICMP("203.0.113.7", "10.244.0.9", 11, 0, 0, pkttest.UDP(front, web, "x")), "quote, read backwards: the destination 198.51.100.1"},
		"quote, v6":            {flow.Outside, pkttest.ICMP("2001:db8:f::1", "2001:db8:80::80", 1, 4, 0, pkttest.UDP(web6, pod6, "x")), "fd00:244::9 is no frontend"},
		"quote's checksum":     {flow.Outside, pkttest.ICMP("198.51.100.1", "203.0.113.80", 3, 3, 0, pkttest.UDP(web, front, "x", pkttest.Patch(8, 1))), "quote's IPv4 header checksum"},
		"truncated":            {flow.Inside, pkttest.UDP(web, pod, "x")[:27], "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			a := Audit{Inside: Inside, Frontends: Frontends, Strangers: []netip.Addr{IPv4.Stranger}}
			a.Observe(tt.to, tt.pkt)
			switch err := a.Err(); {
			case a.Packets(tt.to) != 1:
				t.Errorf("counted %d packets, want 1", a.Packets(tt.to))
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("complaint %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestAuditKeepsTheFirstComplaints(t *testing.T) {
	var a Audit
	for range 3 * maxFindings {
		a.Observe(flow.Outside, nil)
	}
	if n := strings.Count(a.Err().Error(), "malformed"); n != maxFindings || a.Packets(flow.Outside) != 3*maxFindings {
		t.Errorf("%d complaints about %d packets, want %d about %d", n, a.Packets(flow.Outside), maxFindings, 3*maxFindings)
	}
}
