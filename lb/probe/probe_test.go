package probe_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

func TestValidate(t *testing.T) {
	type problem struct {
		text string
		kind error
	}
	tcp := func(change func(p *probe.Probe)) probe.Probe {
		p := probe.Probe{Name: "p", Port: 80}
		change(&p)
		return p
	}
	web := func(protocol probe.Protocol, change func(p *probe.Probe)) probe.Probe {
		return tcp(func(p *probe.Probe) {
			p.Protocol, p.RequestPath = protocol, "/healthz"
			change(p)
		})
	}
	same := func(*probe.Probe) {}
	for _, tt := range []struct {
		name   string
		probe  probe.Probe
		limits probe.Limits
		want   []problem
	}{
		{"TCP by default", tcp(same), probe.Limits{}, nil},
		{"HTTP on Basic", web(probe.HTTP, same), probe.Limits{Basic: true}, nil},
		{"HTTPS on Standard", web(probe.HTTPS, same), probe.Limits{}, nil},
		{"HTTPS on Basic", web(probe.HTTPS, same), probe.Limits{Basic: true},
			[]problem{{"Protocol Https: not supported: Basic has Tcp and Http", probe.ErrUnsupported}}},
		{"nothing", probe.Probe{}, probe.Limits{}, []problem{
			{`Name "": missing`, flow.ErrMissing}, {"Port 0: out of range: 1..65535", flow.ErrOutOfRange}}},
		{"constants of no type", tcp(func(p *probe.Probe) { p.Protocol, p.NoHealthyBackendsBehavior = 3, 2 }), probe.Limits{}, []problem{
			{"NoHealthyBackendsBehavior 2: out of range: 0..1", flow.ErrOutOfRange}, {"Protocol 3: out of range: 0..2", flow.ErrOutOfRange}}},
		{"example 62: 5 s twice", tcp(func(p *probe.Probe) { p.Interval = 5 * time.Second }), probe.Limits{Kubernetes: true}, nil},
		{"example 62: 5 s 24 times", tcp(func(p *probe.Probe) { p.Interval, p.NumberOfProbes = 5*time.Second, 24 }), probe.Limits{Kubernetes: true},
			[]problem{{"Interval 5s x 24: interval times number of probes must be below 2m0s", probe.ErrTooSlow}}},
		{"5 s 24 times, in Azure", tcp(func(p *probe.Probe) { p.Interval, p.NumberOfProbes = 5*time.Second, 24 }), probe.Limits{}, nil},
		{"the threshold counts", tcp(func(p *probe.Probe) { p.NumberOfProbes, p.ProbeThreshold = 100, 7 }), probe.Limits{Kubernetes: true}, nil},
		{"example 62: 4 s", tcp(func(p *probe.Probe) { p.Interval = 4 * time.Second }), probe.Limits{Kubernetes: true},
			[]problem{{"Interval 4s: out of range: 5s..24h0m0s", flow.ErrOutOfRange}}},
		{"half a second", tcp(func(p *probe.Probe) { p.Interval = 5500 * time.Millisecond }), probe.Limits{},
			[]problem{{"Interval 5.5s: out of range: whole seconds", flow.ErrOutOfRange}}},
		{"numbers below 0", tcp(func(p *probe.Probe) { p.Interval, p.NumberOfProbes, p.ProbeThreshold = -time.Second, -1, -2 }), probe.Limits{Kubernetes: true}, []problem{
			{"Interval -1s: out of range: 5s..24h0m0s", flow.ErrOutOfRange},
			{"NumberOfProbes -1: out of range: 0..65536", flow.ErrOutOfRange}, {"ProbeThreshold -2: out of range: 0..65536", flow.ErrOutOfRange}}},
		{"a path of TCP", tcp(func(p *probe.Probe) { p.RequestPath = "/" }), probe.Limits{},
			[]problem{{`RequestPath "/": conflict: Tcp asks for nothing`, flow.ErrConflict}}},
		{"no path of HTTP", web(probe.HTTP, func(p *probe.Probe) { p.RequestPath = "" }), probe.Limits{},
			[]problem{{`RequestPath "": missing: Http needs one`, flow.ErrMissing}}},
		{"a path that ends the request", web(probe.HTTPS, func(p *probe.Probe) { p.RequestPath = "/a HTTP/1.1\r\n" }), probe.Limits{},
			[]problem{{`RequestPath "/a HTTP/1.1\r\n": cannot be read: ASCII without spaces`, flow.ErrSyntax}}},
		{"a path without slash", web(probe.HTTP, func(p *probe.Probe) { p.RequestPath = "healthcheck2.aspx" }), probe.Limits{}, nil},
	} {
		err := tt.probe.Validate(tt.limits)
		want := ""
		for i, p := range tt.want {
			if i > 0 {
				want += "\n"
			}
			want += p.text
			assert.ErrorIs(t, err, p.kind, tt.name)
		}
		if tt.want == nil {
			assert.NoError(t, err, tt.name)
		} else {
			assert.EqualError(t, err, want, tt.name)
		}
	}
}

func TestForbiddenPorts(t *testing.T) {
	for _, port := range []uint16{19, 21, 25, 70, 110, 119, 143, 220, 993} {
		p := probe.Probe{Name: "p", Protocol: probe.HTTP, RequestPath: "/", Port: port}
		assert.ErrorIs(t, p.Validate(probe.Limits{}), probe.ErrForbiddenPort)
		p.Port++
		assert.NoError(t, p.Validate(probe.Limits{}))
		p = probe.Probe{Name: "p", Port: port}
		assert.NoError(t, p.Validate(probe.Limits{}), "TCP may")
	}
}

func TestNames(t *testing.T) {
	assert.Equal(t, "Tcp Http Https probe.Protocol(3)", probe.TCP.String()+" "+probe.HTTP.String()+" "+probe.HTTPS.String()+" "+probe.Protocol(3).String())
	assert.Equal(t, "AllProbedDown AllProbedUp", probe.AllProbedDown.String()+" "+probe.AllProbedUp.String())
	assert.Equal(t, "failure success refusal", probe.Failure.String()+" "+probe.Success.String()+" "+probe.Refusal.String())
	assert.Equal(t, "None Up Down", probe.AdminNone.String()+" "+probe.AdminUp.String()+" "+probe.AdminDown.String())
}
