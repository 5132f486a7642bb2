package whatif

// Open returns how many conversations have a port, and how many entries the agenda has.
func Open(s *Simulation) (open, due int) { return s.byPort.n, s.agenda.Len() }

// Records returns how many records of conversations there are, used or not.
func Records(s *Simulation) int { return len(s.conversations) }
