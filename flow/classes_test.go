package flow

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTimeoutsValidate(t *testing.T) {
	require.NoError(t, Timeouts{}.Validate())
	require.NoError(t, RFCTimeouts().Validate())
	require.NoError(t, Timeouts{UDP: time.Millisecond, ICMP: MaxTimeout}.Validate())

	err := Timeouts{TCPOpening: -time.Second, UDP: 1500 * time.Microsecond, ICMP: MaxTimeout + time.Millisecond}.Validate()
	require.ErrorIs(t, err, ErrTimeout)
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	assert.Len(t, joined.Unwrap(), 3, "all problems at once")
	for _, text := range []string{"TCPOpening -1s: ", "UDP 1.5ms: ", "ICMP 576h0m0.001s: "} {
		assert.ErrorContains(t, err, text)
	}
	assert.False(t, errors.Is(Timeouts{UDP: time.Hour}.Validate(), ErrTimeout))
}

// TestTimeoutsFields sets each field in turn, so that a field paired with the
// wrong class or name is found.
func TestTimeoutsFields(t *testing.T) {
	defaults := Timeouts{}.ticks()
	typ := reflect.TypeFor[Timeouts]()
	require.Equal(t, int(numBuiltinClasses)-1, typ.NumField())
	for i := range typ.NumField() {
		name, class := typ.Field(i).Name, Class(i+1)
		assert.Equal(t, name, timeoutFields[class])

		var to Timeouts
		reflect.ValueOf(&to).Elem().Field(i).SetInt(int64(7 * time.Second))
		want := defaults
		want[class] = 7000
		if class == ClassTCPEstablished {
			want[ClassTCPUnacknowledged] = 7000 // which is never longer
		}
		assert.Equal(t, want, to.ticks(), name)

		reflect.ValueOf(&to).Elem().Field(i).SetInt(-1)
		assert.ErrorContains(t, to.Validate(), name+" -1ns")
		assert.Equal(t, time.Duration(-1), *to.byClass()[class])
	}
	assert.Equal(t, RFCTimeouts(), Timeouts{}.Or(RFCTimeouts()))
	assert.Zero(t, defaults[ClassNone])
	assert.Zero(t, defaults[FirstCustomClass])
}

// TestNAT_T5_TimeoutFloors holds the defaults against the minimums of the RFCs.
func TestNAT_T5_TimeoutFloors(t *testing.T) {
	d := RFCTimeouts()
	for _, c := range []struct {
		name     string
		got, min time.Duration
	}{
		{"RFC 5382 REQ-5 established", d.TCPEstablished, 7440 * time.Second},
		{"RFC 5382 REQ-5 half closed", d.TCPHalfClosed, 7440 * time.Second},
		{"RFC 5382 REQ-5 opening", d.TCPOpening, 240 * time.Second},
		{"RFC 5382 REQ-5 closing", d.TCPClosing, 240 * time.Second},
		{"RFC 7857 2.2 reset", d.TCPReset, 240 * time.Second},
		{"RFC 4787 REQ-5c", d.UDP, 300 * time.Second},
		{"RFC 4787 REQ-5c, replied", d.UDPReplied, 300 * time.Second},
		{"RFC 5508 REQ-2", d.ICMP, 60 * time.Second},
	} {
		assert.GreaterOrEqual(t, c.got, c.min, c.name)
	}
}

func TestClassNames(t *testing.T) {
	seen := map[string]bool{}
	for c := range Class(NumClasses + 1) {
		assert.False(t, seen[c.String()], "%v twice", c)
		seen[c.String()] = true
	}
	assert.Equal(t, "tcp-half-closed", ClassTCPHalfClosed.String())
	assert.Equal(t, "class(15)", numBuiltinClasses.String())
	assert.Equal(t, "custom-0", FirstCustomClass.String())
	assert.Equal(t, "custom-15", Class(NumClasses-1).String())
	assert.Equal(t, "class(32)", Class(NumClasses).String())
	assert.LessOrEqual(t, numBuiltinClasses, FirstCustomClass)
}
