package traffic

import "slices"

// Fork returns a copy of rows. All of their locks must be held.
func (r Rows) Fork() Rows {
	to := slices.Clone(r)
	for i := range to {
		to[i] = slices.Clone(to[i])
	}
	return to
}
