package whatif

// Open returns how many conversations have a port, and how many entries the agenda has.
func Open(s *Simulation) (open, due int) { return len(s.byPort), s.agenda.Len() }
