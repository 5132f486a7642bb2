package snat

// PortUses are ports in use by what uses them: ports that at least one new flow
// could not get. A port that serves several purposes counts once, for the first in
// this order. TCP ports are never HeldUDP, others never HeldFIN nor HeldRST.
type PortUses struct {
	Active   int // by a flow that is not over
	HeldFIN  int // kept from the destinations of connections that were closed
	HeldRST  int // kept from the destinations of connections that were reset
	HeldUDP  int // kept from the destinations of UDP flows that are over; see Timeouts.UDPHeld
	Resting  int // kept from everybody for a while; see [Quarantine]
	Excluded int // kept from everybody for good; see [Allocation].Exclude
}

// Held returns the number of ports in use on which no flow is active.
func (u PortUses) Held() int {
	return u.HeldFIN + u.HeldRST + u.HeldUDP + u.Resting + u.Excluded
}

// Total returns the number of ports in use.
func (u PortUses) Total() int { return u.Active + u.Held() }

// Add returns the ports of u and of o together.
func (u PortUses) Add(o PortUses) PortUses {
	return PortUses{
		Active: u.Active + o.Active, HeldFIN: u.HeldFIN + o.HeldFIN, HeldRST: u.HeldRST + o.HeldRST,
		HeldUDP: u.HeldUDP + o.HeldUDP, Resting: u.Resting + o.Resting, Excluded: u.Excluded + o.Excluded,
	}
}
