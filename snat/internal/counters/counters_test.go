package counters

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
)

// number gives every number in a value another one, above 0, and counts them.
func number(v reflect.Value, next *uint64) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			number(v.Field(i), next)
		}
	case reflect.Array:
		for i := range v.Len() {
			number(v.Index(i), next)
		}
	default:
		*next++
		v.SetUint(*next)
	}
}

// No count is forgotten when shards are added up.
func TestCountersAdd(t *testing.T) {
	var one, sum Counters
	last := uint64(0)
	number(reflect.ValueOf(&one).Elem(), &last)
	for range 3 {
		sum.Add(&one)
	}
	assert.Greater(t, last, uint64(100))
	every(t, reflect.ValueOf(sum), reflect.ValueOf(one))
}

// every expects three times the numbers of one in sum.
func every(t *testing.T, sum, one reflect.Value) {
	switch sum.Kind() {
	case reflect.Struct:
		for i := range sum.NumField() {
			every(t, sum.Field(i), one.Field(i))
		}
	case reflect.Array:
		for i := range sum.Len() {
			every(t, sum.Index(i), one.Index(i))
		}
	default:
		assert.Equal(t, 3*one.Uint(), sum.Uint())
	}
}
