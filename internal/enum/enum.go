// Package enum names the values of enumerations.
package enum

import "fmt"

// Name returns the name of a value of an enumeration, whose first value is 0, and of a
// value without name its type and number.
func Name[E ~uint8](e E, names []string) string {
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("%T(%d)", e, uint8(e))
}
