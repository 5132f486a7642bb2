package page

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Count formats n with thousands separators.
func Count[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural formats n things.
func Plural[N int | int64 | uint64](n N, noun string) string {
	return Count(n) + " " + pluralize(n, noun)
}

func pluralize[N int | int64 | uint64](n N, noun string) string {
	switch stem, y := strings.CutSuffix(noun, "y"); {
	case n == 1:
		return noun
	case y:
		return stem + "ies"
	}
	return noun + "s"
}

// Percent formats a share of 0 to 1.
func Percent(share float64) string {
	if share > 0 && share < 0.005 {
		return "<1 %"
	}
	return strconv.Itoa(int(share*100+0.5)) + " %"
}

// Short formats a duration without its zero parts: 30m, 1h2m3s.
func Short(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
