package probe

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
)

// Result is what came of an attempt.
type Result uint8

// The results. The zero value is no success, so a forgotten one cannot make a backend
// healthy.
const (
	// Failure is no answer in time, or none that is a success. Of TCP it is also a RST.
	Failure Result = iota
	// Success is a completed handshake, or of HTTP and HTTPS the status 200.
	Success
	// Refusal is an answer that says no, for HTTP and HTTPS: another status, or a RST.
	// The backend is unhealthy at once, whatever the threshold (probe document). From a
	// TCP probe it counts as Failure.
	Refusal
	numResults
)

var resultNames = [...]string{"failure", "success", "refusal"}

var _ = [1]struct{}{}[len(resultNames)-int(numResults)] // one name per result

// String returns "failure", "success" or "refusal".
func (r Result) String() string { return enum.Name(r, resultNames[:]) }

// Backend is an address that probes are sent to.
type Backend struct {
	Name string     // of the machine; it may have other addresses
	Addr netip.Addr // one of its own, unicast; a real prober may also ask loopback and link-local ones
}

// Prober answers attempts: a simulator's picture of its machines, or real connections.
type Prober interface {
	// Probe returns what comes of the attempt that p makes at b at a time. It must not
	// call the Monitor that asks. For a run to be repeatable the answer must follow
	// from the arguments and from what the simulator has done. p must not be changed.
	Probe(at flow.Time, b Backend, p *Probe) Result
}

// ProberFunc is a function that is a Prober.
type ProberFunc func(at flow.Time, b Backend, p *Probe) Result

// Probe calls f.
func (f ProberFunc) Probe(at flow.Time, b Backend, p *Probe) Result { return f(at, b, p) }
