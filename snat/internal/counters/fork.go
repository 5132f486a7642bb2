package counters

// ForkTo makes to, which is zero, a copy. Others may count meanwhile.
func (d *Direct) ForkTo(to *Direct) {
	for side := range 2 {
		to.Forwarded[side].Store(d.Forwarded[side].Load())
		to.Bypassed[side].Store(d.Bypassed[side].Load())
	}
}

// ForkTo makes to, which is zero, a copy. Others may ring meanwhile.
func (a *Alarms) ForkTo(to *Alarms) {
	a.Exhausted.forkTo(&to.Exhausted)
	a.Quota.forkTo(&to.Quota)
}

func (a *Alarm) forkTo(to *Alarm) {
	to.next.Store(a.next.Load())
	to.count.Store(a.count.Load())
}

// ForkTo makes to, which is zero, a copy.
func (d *Daily) ForkTo(to *Daily) { to.at.Store(d.at.Load()) }

// ForkTo makes to, which is zero, a copy. Others may count meanwhile.
func (e *Early) ForkTo(to *Early) {
	for side := range e.drops {
		for r := range e.drops[side] {
			to.drops[side][r].Store(e.drops[side][r].Load())
		}
	}
}
