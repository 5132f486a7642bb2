// The audit: what each side sees of the other.

package labs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Audit checks packets. It is safe for concurrent use; the fields do not change
// once packets flow.
type Audit struct {
	Inside    []netip.Prefix // what no packet outside may carry, and every packet inside is sent to
	Frontends []netip.Addr   // what every packet outside comes from, and no packet inside carries
	Strangers []netip.Addr   // what no packet inside comes from

	mu       sync.Mutex
	packets  [2]int // by the side they were sent to
	findings []error
}

const maxFindings = 10 // more of them say no more

// Observe checks one packet that is about to be sent to a side; it fits
// router.Config.Observe.
func (a *Audit) Observe(to flow.Side, pkt []byte) {
	err := a.check(to, pkt)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.packets[to]++
	if err != nil && len(a.findings) < maxFindings {
		a.findings = append(a.findings, fmt.Errorf("packet %d to the %v: %w: %x", a.packets[to], to, err, pkt[:min(len(pkt), 80)]))
	}
}

func (a *Audit) check(to flow.Side, pkt []byte) error {
	var p wire.Packet
	if problem := wire.Parse(pkt, &p); problem != wire.OK { // the IPv4 header checksum included
		return fmt.Errorf("malformed: %s", flow.Reason(problem).Sentence())
	}
	if !wire.VerifyL4(&p) {
		return errors.New("the transport checksum is wrong")
	}
	var src, dst netip.Addr
	if p.Flags&wire.V6 != 0 {
		src, dst = netip.AddrFrom16(p.IPv6().Src()), netip.AddrFrom16(p.IPv6().Dst())
	} else {
		src, dst = flow.NetAddr4(p.IPv4().Src()), flow.NetAddr4(p.IPv4().Dst())
	}
	inside := func(addr netip.Addr) bool {
		return slices.ContainsFunc(a.Inside, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	switch {
	case to == flow.Outside && !slices.Contains(a.Frontends, src):
		return fmt.Errorf("the source %v is no frontend", src)
	case to == flow.Outside && inside(dst):
		return fmt.Errorf("the destination %v is an inside address", dst)
	case to == flow.Inside && !inside(dst):
		return fmt.Errorf("the destination %v is no inside address", dst)
	case to == flow.Inside && slices.Contains(a.Frontends, src):
		return fmt.Errorf("the source %v is a frontend", src)
	case to == flow.Inside && slices.Contains(a.Strangers, src):
		return fmt.Errorf("nobody has asked %v", src)
	}
	return nil
}

// Packets returns the number of packets that were sent to a side.
func (a *Audit) Packets(to flow.Side) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.packets[to]
}

// Err returns what was wrong with the first ten packets that failed, nil if none
// did.
func (a *Audit) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.findings...)
}
