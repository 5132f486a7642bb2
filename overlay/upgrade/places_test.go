package upgrade

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPlaces(t *testing.T) {
	p := newPlaces(3, func(i int) (runs, room int) { return []int{2, 1, 1}[i], []int{9, 2, 1}[i] })
	var went []int
	for range 3 {
		assert.True(t, p.fill(func(i int) bool { went = append(went, i); return true }))
	}
	assert.Equal(t, []int{1, 0, 0}, went, "the fewest first, the first of equals, and none beyond its room")
	assert.False(t, p.fill(func(int) bool { return false }))
	assert.False(t, newPlaces(0, nil).fill(func(int) bool { return true }))
}
