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

// Audit checks packets, and what ICMP errors quote. It is safe for concurrent use; the fields do not change
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
	// A fragment's transport checksum is judged by the kernel that reassembles.
	if p.Flags&wire.Fragmented == 0 && !wire.VerifyL4(&p) {
		return errors.New("the transport checksum is wrong")
	}
	src, dst := addresses(p.B)
	if err := a.checkAddrs(to, src, dst); err != nil {
		return err
	}
	if quote := quoted(&p); quote != nil {
		if quote[0]>>4 == 4 && wire.Fold(wire.Sum(quote[:min(int(quote[0]&15)*4, len(quote))], 0)) != 0xffff {
			return errors.New("the quote's IPv4 header checksum is wrong")
		}
		// What is quoted went the other way, so the receiver's view of it is that
		// of its sender.
		src, dst := addresses(quote)
		if err := a.checkAddrs(to, dst, src); err != nil {
			return fmt.Errorf("in the quote, read backwards: %w", err)
		}
	}
	return nil
}

// addresses returns the addresses of an IP header.
func addresses(b []byte) (src, dst netip.Addr) {
	if b[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
}

// quoted returns the packet that an ICMP error quotes, from its IP header on, nil
// if p is none or quotes less than that.
func quoted(p *wire.Packet) []byte {
	if p.Flags&wire.NonFirst != 0 {
		return nil
	}
	switch {
	case p.Proto == wire.ProtoICMP && p.ICMPv4().IsError():
		if quote := p.ICMPv4().Payload(); len(quote) >= 20 {
			return quote
		}
	case p.Proto == wire.ProtoICMPv6 && p.ICMPv6().IsError():
		if quote := p.ICMPv6().Payload(); len(quote) >= 40 {
			return quote
		}
	}
	return nil
}

// checkAddrs checks the addresses of a packet to a side.
func (a *Audit) checkAddrs(to flow.Side, src, dst netip.Addr) error {
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
