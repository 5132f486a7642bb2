package problems_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/problems"
)

type color uint8

func (c color) String() string { return "color" }

func TestListOfNothing(t *testing.T) {
	var l problems.List
	l.Include("Part", nil)
	assert.NoError(t, l.Err())
	assert.Zero(t, l.Len())
}

// A value is shown as the user wrote it.
func TestAdd(t *testing.T) {
	for want, err := range map[string]error{
		`Name "": missing`:                  problems.New("Name", "", problems.ErrMissing, ""),
		"Idle 1s: out of range: 2s..3s":     problems.New("Idle", time.Second, problems.ErrOutOfRange, "%v..%v", 2*time.Second, 3*time.Second),
		"Ports 8+3: out of range: 100%":     problems.New("Ports", problems.Rawf("%d+%d", 8, 3), problems.ErrOutOfRange, "100%%"),
		"Ports: conflict: with Inventory":   problems.New("Ports", problems.None, problems.ErrConflict, "with Inventory"),
		"1.2.3.4: overlap":                  problems.New("", netip.MustParseAddr("1.2.3.4"), problems.ErrOverlap, ""),
		"missing: all":                      problems.New("", problems.None, problems.ErrMissing, "all"),
		"Behavior {Share:color}: conflict":  problems.New("Behavior", struct{ Share color }{7}, problems.ErrConflict, ""),
		"Addr invalid IP: overlap: 100%d %": problems.New("Addr", netip.Addr{}, problems.ErrOverlap, "%s", "100%d %"),
	} {
		assert.EqualError(t, err, want)
	}
}

func TestChecks(t *testing.T) {
	var l problems.List
	assert.True(t, problems.Between(&l, "A", 1, 1, 3))
	assert.True(t, problems.Constant(&l, "A", color(2), 3))
	assert.True(t, problems.AtMost(&l, "A", 5, "elements", 5))
	require.NoError(t, l.Err())
	assert.False(t, problems.Between(&l, "A", -time.Second, 0, time.Minute))
	assert.False(t, problems.Constant(&l, "B", color(3), 3))
	assert.False(t, problems.AtMost(&l, "C", 6, "elements", 5))
	assert.EqualError(t, l.Err(), "A -1s: out of range: 0s..1m0s\nB 3: out of range: 0..2\nC has 6 elements: too many: at most 5")
}

// By path, elements in their order, nothing twice.
func TestErrIsSorted(t *testing.T) {
	var l problems.List
	for _, path := range []string{"Ports[10].First", "Ports[9].First", "Name", "Ports[9]", "Ports[10].First", "Ports"} {
		l.Add(path, problems.None, problems.ErrMissing, "")
	}
	l.Add("Ports[9]", 3, problems.ErrConflict, "")
	assert.Equal(t, 6, l.Len())
	err := l.Err()
	assert.EqualError(t, err, "Name: missing\nPorts: missing\nPorts[9]: missing\nPorts[9] 3: conflict\nPorts[9].First: missing\nPorts[10].First: missing")
	assert.ErrorIs(t, err, problems.ErrMissing)
	assert.ErrorIs(t, err, problems.ErrConflict)
	assert.NotErrorIs(t, err, problems.ErrOverlap)
	l.Add("A", 1, problems.ErrOverlap, "")
	assert.NotErrorIs(t, err, problems.ErrOverlap, "what has been returned does not change")
}

func TestErrIsBounded(t *testing.T) {
	var l problems.List
	for i := range 3 * problems.Max {
		assert.Equal(t, i >= problems.Max, l.Full())
		l.Add(problems.Index("Rows", i), i, problems.ErrOutOfRange, "")
	}
	assert.Equal(t, 3*problems.Max, l.Len())
	assert.ErrorContains(t, l.Err(), "\nRows[99] 99: out of range\nand 200 more")
	var whole problems.List
	whole.Add("A", 1, problems.ErrMissing, "")
	whole.Include("Part", l.Err())
	assert.Equal(t, 3*problems.Max+1, whole.Len())
	assert.ErrorContains(t, whole.Err(), "\nPart.Rows[98] 98: out of range\nand 201 more")
}

// What a part reports stands under its path, and is still what it was.
func TestInclude(t *testing.T) {
	var own = errors.New("own")
	var part, whole problems.List
	part.Add("Idle", 7, problems.ErrOutOfRange, "")
	part.Add("[3].Name", "x", own, "")
	part.Add("", 8, problems.ErrTooMany, "")
	part.Include("", fmt.Errorf("elsewhere: %w", own))
	whole.Include("Timeouts", part.Err())
	whole.Include("Timeouts", part.Err())
	whole.Include("Other", own)
	whole.Include("", own)
	assert.EqualError(t, whole.Err(), "own\nOther: own\nTimeouts 8: too many\nTimeouts: elsewhere: own\nTimeouts.Idle 7: out of range\nTimeouts[3].Name \"x\": own")
	for _, kind := range []error{problems.ErrOutOfRange, problems.ErrTooMany, own} {
		assert.ErrorIs(t, whole.Err(), kind)
	}
}

func TestPaths(t *testing.T) {
	assert.Equal(t, "A.B[3].C", problems.Field(problems.Index(problems.Field("A", "B"), 3), "C"))
	assert.Equal(t, "B", problems.Field("", "B"))
	assert.Equal(t, "A", problems.Field("A", ""))
	assert.Equal(t, "A[2]", problems.Field("A", "[2]"))
}
