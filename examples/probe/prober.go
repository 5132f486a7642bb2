package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// longest is how long HTTP and HTTPS wait for an answer (probe document).
const longest = 30 * time.Second

// prober asks real services.
type prober struct {
	ctx     context.Context
	patient time.Duration // how long TCP waits: the interval, in real time
	client  *http.Client
}

func newProber(ctx context.Context, o options) *prober {
	interval := time.Duration(float64(o.probe.Interval) / o.speed)
	return &prober{ctx: ctx, patient: interval, client: &http.Client{
		Timeout:       longest,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // any status but 200 is a no
		Transport: &http.Transport{
			DisableKeepAlives: true,                                  // each attempt is a connection
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // an address has no name to compare
		},
	}}
}

// Probe implements probe.Prober.
func (p *prober) Probe(_ flow.Time, b probe.Backend, q *probe.Probe) probe.Result {
	to := netip.AddrPortFrom(b.Addr, q.Port).String()
	if q.Protocol == probe.TCP {
		conn, err := (&net.Dialer{Timeout: p.patient}).DialContext(p.ctx, "tcp", to)
		if err != nil {
			return probe.Failure
		}
		conn.Close()
		return probe.Success
	}
	scheme := strings.ToLower(q.Protocol.String())
	request, err := http.NewRequestWithContext(p.ctx, http.MethodGet, scheme+"://"+to+"/"+strings.TrimPrefix(q.RequestPath, "/"), nil)
	if err != nil {
		return probe.Failure
	}
	request.Host = b.Name
	answer, err := p.client.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED):
		return probe.Refusal
	case err != nil:
		return probe.Failure
	}
	io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return probe.Refusal
	}
	return probe.Success
}
