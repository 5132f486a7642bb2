package forwards

import "slices"

// Fork returns a copy of s, whose targets change their states on their own from then on. The
// locks of all shards must be held, and what keeps states from changing. Cost: O(forwards x
// shards); what never changes is shared.
func (s *Set) Fork() *Set {
	if s == nil {
		return nil
	}
	to := *s
	to.all, to.counts = make([]Forward, len(s.all)), slices.Clone(s.counts)
	for i := range s.all {
		f := &s.all[i]
		to.all[i].Spec, to.all[i].byTarget, to.all[i].shares = f.Spec, f.byTarget, f.shares
		to.all[i].choice.Store(f.choice.Load())
	}
	for i := range to.counts {
		to.counts[i] = slices.Clone(to.counts[i])
	}
	return &to
}
