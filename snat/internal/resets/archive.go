package resets

// Append puts the RSTs that wait in another queue behind those of q, and adds its counts.
func (q *Queue) Append(other *Queue) {
	q.waiting = append(q.waiting, other.waiting...)
	q.made += other.made
	q.suppressed += other.suppressed
}
