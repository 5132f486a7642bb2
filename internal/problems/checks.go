package problems

// Integer is what a number in a configuration can be.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Between records a problem unless least <= value <= most, and reports whether there is
// none.
func Between[T Integer](l *List, path string, value, least, most T) bool {
	if least <= value && value <= most {
		return true
	}
	l.Add(path, value, ErrOutOfRange, "%v..%v", least, most)
	return false
}

// Constant records a problem unless value is one of the constants 0..n-1 of its type,
// and reports whether there is none.
func Constant[T ~uint8](l *List, path string, value, n T) bool {
	if value < n {
		return true
	}
	l.Add(path, uint8(value), ErrOutOfRange, "0..%d", uint8(n-1))
	return false
}

// AtMost records a problem if what is at path has more than most of something, named in
// the plural, and reports whether there is none.
func AtMost(l *List, path string, n int, things string, most int) bool {
	if n <= most {
		return true
	}
	l.Add(path, Rawf("has %d %s", n, things), ErrTooMany, "at most %d", most)
	return false
}
