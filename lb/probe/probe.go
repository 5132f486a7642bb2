package probe

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// What can be wrong with a probe besides what package flow names.
var (
	// ErrUnsupported marks a protocol that a SKU does not have. Package lb has the same.
	ErrUnsupported = errors.New("not supported")
	// ErrForbiddenPort marks a port that no HTTP probe may have.
	ErrForbiddenPort = errors.New("port is not allowed for HTTP probes")
	// ErrTooSlow marks what Kubernetes refuses: an interval times a number of probes of
	// 120 s or more.
	ErrTooSlow = errors.New("interval times number of probes must be below 2m0s")
)

// Protocol is how a probe asks.
type Protocol uint8

// The protocols.
const (
	TCP   Protocol = iota // a handshake
	HTTP                  // a GET that wants the status 200
	HTTPS                 // the same over TLS, Standard only
	numProtocols
)

var protocolNames = [...]string{"Tcp", "Http", "Https"}

var _ = [1]struct{}{}[len(protocolNames)-int(numProtocols)] // one name per protocol

// String returns Azure's name: "Tcp", "Http" or "Https".
func (p Protocol) String() string { return enum.Name(p, protocolNames[:]) }

// NoHealthyBackendsBehavior says what a rule does for new flows when its probe finds
// none of its backends healthy.
type NoHealthyBackendsBehavior uint8

// The behaviors.
const (
	AllProbedDown NoHealthyBackendsBehavior = iota // there are no new flows
	AllProbedUp                                    // all backends count as healthy
	numBehaviors
)

var behaviorNames = [...]string{"AllProbedDown", "AllProbedUp"}

var _ = [1]struct{}{}[len(behaviorNames)-int(numBehaviors)] // one name per behavior

// String returns "AllProbedDown" or "AllProbedUp".
func (b NoHealthyBackendsBehavior) String() string { return enum.Name(b, behaviorNames[:]) }

// The defaults of a probe, and their least values (probe document; Azure Resource
// Manager has 15 s where the portal and Kubernetes have 5 s).
const (
	DefaultInterval  = 15 * time.Second
	MinInterval      = 5 * time.Second
	DefaultThreshold = 2

	maxInterval  = 24 * time.Hour // our choice, against overflow
	maxThreshold = 1 << 16        // likewise
)

// Probe is a health probe of a load balancer, with Azure's fields.
type Probe struct {
	Name     string   // unique, not empty
	Protocol Protocol // zero is TCP
	Port     uint16   // of the backend, 1..65535; for HTTP none of 19, 21, 25, 70, 110, 119, 143, 220 and 993

	// Interval lies between two attempts: whole seconds, at least 5. 0 means 15.
	// Azure calls it intervalInSeconds.
	Interval time.Duration

	// NumberOfProbes is how many failures in a row make a backend unhealthy, and how
	// many successes make it healthy again. 0 means 2. ProbeThreshold is the same by
	// the name it has today; where it is set, it counts.
	NumberOfProbes, ProbeThreshold int

	// RequestPath is what HTTP and HTTPS ask for, such as "/healthz". It must not be
	// empty for them, nor set for TCP.
	RequestPath string

	// NoHealthyBackendsBehavior is for rules that use the probe. Zero is AllProbedDown.
	NoHealthyBackendsBehavior NoHealthyBackendsBehavior
}

// interval returns the interval in force.
func (p *Probe) interval() time.Duration { return cmp.Or(p.Interval, DefaultInterval) }

// threshold returns how many results in a row count.
func (p *Probe) threshold() int {
	return cmp.Or(p.ProbeThreshold, p.NumberOfProbes, DefaultThreshold)
}

// Limits say what a probe is checked against. The zero value is a Standard load
// balancer.
type Limits struct {
	Basic      bool // no HTTPS (probe document)
	Kubernetes bool // the interval times the number of probes is below 120 s, as the cloud provider of Kubernetes wants it
}

// forbidden are the ports that HTTP probes must not have (probe document).
var forbidden = []uint16{19, 21, 25, 70, 110, 119, 143, 220, 993}

// Validate reports every problem of p, naming field and value.
func (p Probe) Validate(limits Limits) error {
	var l problems.List
	if p.Name == "" {
		l.Add("Name", p.Name, flow.ErrMissing, "")
	}
	if problems.Constant(&l, "Protocol", p.Protocol, numProtocols) && limits.Basic && p.Protocol == HTTPS {
		l.Add("Protocol", p.Protocol, ErrUnsupported, "Basic has Tcp and Http")
	}
	problems.Constant(&l, "NoHealthyBackendsBehavior", p.NoHealthyBackendsBehavior, numBehaviors)
	if problems.Between(&l, "Port", p.Port, 1, 65535) && p.Protocol == HTTP && slices.Contains(forbidden, p.Port) {
		l.Add("Port", p.Port, ErrForbiddenPort, "")
	}
	p.validateRhythm(&l, limits)
	p.validatePath(&l)
	return l.Err()
}

// validateRhythm checks interval and thresholds.
func (p *Probe) validateRhythm(l *problems.List, limits Limits) {
	sound := p.Interval == 0 || problems.Between(l, "Interval", p.Interval, MinInterval, maxInterval)
	if sound && p.Interval%time.Second != 0 {
		l.Add("Interval", p.Interval, flow.ErrOutOfRange, "whole seconds")
	}
	sound = problems.Between(l, "NumberOfProbes", p.NumberOfProbes, 0, maxThreshold) && sound
	sound = problems.Between(l, "ProbeThreshold", p.ProbeThreshold, 0, maxThreshold) && sound
	if n := p.threshold(); sound && limits.Kubernetes && time.Duration(n)*p.interval() >= 120*time.Second {
		l.Add("Interval", problems.Rawf("%v x %d", p.interval(), n), ErrTooSlow, "")
	}
}

// validatePath checks the request path, which is part of a request as it stands.
func (p *Probe) validatePath(l *problems.List) {
	switch {
	case p.Protocol == TCP && p.RequestPath != "":
		l.Add("RequestPath", p.RequestPath, flow.ErrConflict, "Tcp asks for nothing")
	case p.Protocol == TCP || p.Protocol >= numProtocols:
	case p.RequestPath == "":
		l.Add("RequestPath", p.RequestPath, flow.ErrMissing, "%v needs one", p.Protocol)
	case strings.ContainsFunc(p.RequestPath, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		l.Add("RequestPath", p.RequestPath, flow.ErrSyntax, "ASCII without spaces")
	}
}
