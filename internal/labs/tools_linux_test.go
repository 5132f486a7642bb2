package labs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/snat"
)

// upload sends bytes from one host to another and demands that they arrive.
func upload(t *testing.T, from, to *netlab.Namespace, at netip.AddrPort, size int64) error {
	t.Helper()
	ln, err := to.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), labTimeout)
	defer cancel()
	type result struct {
		sum string
		err error
	}
	arrived := make(chan result, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			arrived <- result{"", err}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(labTimeout))
		sum, err := Sum(c)
		arrived <- result{sum, err}
	}()
	c, err := from.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(labTimeout))
	_, err = io.Copy(c, Content(size))
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	got := <-arrived
	return errors.Join(got.err, sameSum(got.sum, size))
}

// iperf3 moves data over eight connections at once, up and down.
func TestLabParallelFlows(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		const flows = 8
		for _, way := range []string{"", " --reverse"} {
			l, nat := startWith(t, snat.Config{}, 1024, "iperf3")
			l.Server.Launch("Server listening", "iperf3", "-s", "-1", "--forceflush", "-B", f.Server.String())
			out := l.Client.Run(fmt.Sprintf("iperf3 -J -c %v -P %d -n 8M%s", f.Server, flows, way))
			var report struct {
				Error string
				End   struct {
					Streams  []any
					Received struct{ Bytes float64 } `json:"sum_received"`
				}
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil || report.Error != "" || len(report.End.Streams) != flows || report.End.Received.Bytes < 1<<20 {
				t.Errorf("%d streams, %.0f bytes received before the end; error %q, %v", len(report.End.Streams), report.End.Received.Bytes, report.Error, err)
			}
			if n := nat.Stats().SessionsCreated; n < flows+1 { // and one for control
				t.Errorf("%d sessions, want %d", n, flows+1)
			}
		}
	})
}

// A scan from the inside finds what is open and what is closed.
func TestLabScanFromInside(t *testing.T) {
	l, _ := startWith(t, hop(), 1024, "nmap")
	l.Serve(t)
	l.Server.Sysctl("net.ipv4.icmp_ratelimit", "0") // every closed port shall be told
	l.Server.Sysctl("net.ipv6.icmp.ratelimit", "0")
	families(t, func(t *testing.T, f Family) {
		six := ""
		if f.Server.Is6() {
			six = "-6 "
		}
		for how, want := range map[string][]string{
			"-sT -p 53,80,81":  {"53/open/tcp", "80/open/tcp", "81/closed/tcp"},
			"-sS -p 53,80,81":  {"53/open/tcp", "80/open/tcp", "81/closed/tcp"},
			"-sU -p 9":         {"9/closed/udp"}, // by a translated ICMP error
			"-sT -p 1000-1999": {"(1000)"},       // all closed: as many sessions that end at once
		} {
			out := l.Client.Run("nmap " + six + "-n -Pn --max-retries 10 --initial-rtt-timeout 10s --max-rtt-timeout 60s -oG - " + how + " " + f.Server.String())
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("nmap %s does not find %s:\n%s", how, w, out)
				}
			}
		}
	})
}
