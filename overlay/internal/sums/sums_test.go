package sums_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/overlay/internal/sums"
)

func TestOfAddsEveryNumber(t *testing.T) {
	type inner struct{ N [2]int }
	type stats struct {
		A uint64
		B inner
	}
	a, b := stats{1, inner{[2]int{2, 3}}}, stats{10, inner{[2]int{20, -30}}}
	assert.Equal(t, stats{11, inner{[2]int{22, -27}}}, sums.Of(a, b))
	assert.Equal(t, stats{1, inner{[2]int{2, 3}}}, a, "arguments stay")
	assert.Panics(t, func() { sums.Of("a", "b") })
}
