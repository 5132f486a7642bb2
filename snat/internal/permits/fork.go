package permits

// Lock locks all of a table, for ForkTo.
func (t *Table) Lock() {
	t.making.Lock()
	all := t.made()
	for i := range all {
		all[i].mu.Lock()
	}
}

// Unlock is the inverse of Lock.
func (t *Table) Unlock() {
	all := t.made()
	for i := range all {
		all[i].mu.Unlock()
	}
	t.making.Unlock()
}

// ForkTo makes to, which is zero, a copy of t, which is locked.
func (t *Table) ForkTo(to *Table) {
	to.Key = t.Key
	stripes := t.made()
	for i := range stripes {
		was := stripes[i].parts.Load()
		if was == nil {
			continue
		}
		all := new([parts]part)
		for k := range was {
			from, p := &was[k], &all[k]
			p.n, p.sweepAt, p.swept = from.n, from.sweepAt, from.swept
			if old := from.slots.Load(); old != nil {
				is := old.clone()
				p.slots.Store(&is)
			}
		}
		to.all()[i].parts.Store(all)
	}
}

// clone returns a copy, while packets may prolong permits.
func (p *slots) clone() slots {
	was := *p
	is := make(slots, len(was))
	for i := range was {
		if s, to := &was[i], &is[i]; s.state.Load() != free {
			to.flow = s.flow
			to.last.Store(s.last.Load())
			to.state.Store(s.state.Load())
		}
	}
	return is
}
