// Package problems collects what is wrong with a configuration, so that one look at
// the error is enough to repair it.
//
// Terminology:
//   - Problem: a field, as a path from the configuration's root such as
//     "Instances[3].Policy.IdleTimeout"; its value as the user wrote it; a kind; and,
//     where it helps, what would be accepted.
//   - Kind: the sentinel that a problem wraps. Those that any package may need are in
//     kinds.go, and public as package flow's; a package defines only those that are its
//     own.
//   - Part: a configuration within another one, with a Validate of its own.
//     [List.Include] takes its problems over, under the path of the part.
//
// An error lists its problems by path, elements of lists in their order, and none twice.
// It shows [Max] of them and counts the others. It refuses to know what any field means.
//
// A List is for one goroutine.
package problems

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Max is the number of problems that an error shows: those found first.
const Max = 100

// List collects problems. The zero value has none.
type List struct {
	all  []problem
	more int // beyond Max
}

// problem is an error about one field.
type problem struct {
	path  string // "" if it is about nothing in particular
	value string // "" if none is shown
	text  string // what is wrong
	err   error  // what it wraps
}

// Error returns "path value: text".
func (p problem) Error() string {
	where := p.path
	if where != "" && p.value != "" {
		where += " "
	}
	if where += p.value; where != "" {
		where += ": "
	}
	return where + p.text
}

// Unwrap returns the sentinel.
func (p problem) Unwrap() error { return p.err }

// None is the value of a field that has none worth showing.
const None = Raw("")

// Raw is a value that is shown as it stands, instead of in quotes.
type Raw string

// Rawf returns a value that is shown as [fmt.Sprintf] writes it.
func Rawf(format string, args ...any) Raw { return Raw(fmt.Sprintf(format, args...)) }

// Add records that the field at path has a bad value. detail says what would be
// accepted, as for [fmt.Sprintf]; it may be empty.
func (l *List) Add(path string, value any, kind error, detail string, args ...any) {
	l.add(describe(path, value, kind, detail, args))
}

// New returns a single problem as an error, as [List.Add] describes it.
func New(path string, value any, kind error, detail string, args ...any) error {
	var l List
	l.add(describe(path, value, kind, detail, args))
	return l.Err()
}

func describe(path string, value any, kind error, detail string, args []any) problem {
	p := problem{path: path, text: kind.Error(), err: kind}
	switch v := value.(type) {
	case string:
		p.value = fmt.Sprintf("%q", v)
	case Raw:
		p.value = string(v)
	default:
		p.value = fmt.Sprintf("%+v", v)
	}
	if detail != "" {
		p.text += ": " + fmt.Sprintf(detail, args...)
	}
	return p
}

// Include takes over the problems of a part at path: what its Validate has returned.
// Any other error becomes one problem at path. It does nothing if err is nil.
func (l *List) Include(path string, err error) {
	if err == nil {
		return
	}
	part, ok := err.(*found)
	if !ok {
		l.add(problem{path: path, text: err.Error(), err: err})
		return
	}
	for _, p := range part.all {
		p.path = Field(path, p.path)
		l.add(p)
	}
	l.more += part.more
}

func (l *List) add(p problem) {
	switch {
	case slices.ContainsFunc(l.all, func(q problem) bool { return q.path == p.path && q.value == p.value && q.text == p.text }):
	case len(l.all) < Max:
		l.all = append(l.all, p)
	default:
		l.more++
	}
}

// Len returns how many problems there are, those beyond Max included.
func (l *List) Len() int { return len(l.all) + l.more }

// Full reports whether no further problem will be shown, so that there is no point in
// looking for any.
func (l *List) Full() bool { return len(l.all) >= Max }

// Err returns nil if there are no problems, and otherwise an error that wraps those
// that it shows. Later problems do not change it.
func (l *List) Err() error {
	if l.Len() == 0 {
		return nil
	}
	all := slices.Clone(l.all)
	slices.SortStableFunc(all, func(a, b problem) int { return comparePaths(a.path, b.path) })
	return &found{all, l.more}
}

// found is the error of a List.
type found struct {
	all  []problem // sorted
	more int
}

// Error returns one line for each problem.
func (f *found) Error() string {
	var b strings.Builder
	for i, p := range f.all {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
	}
	if f.more > 0 {
		fmt.Fprintf(&b, "\nand %d more", f.more)
	}
	return b.String()
}

// Unwrap returns the problems.
func (f *found) Unwrap() []error {
	errs := make([]error, len(f.all))
	for i, p := range f.all {
		errs[i] = p
	}
	return errs
}

// Field returns the path of a field of what is at path, which is "" for the root.
func Field(path, field string) string {
	if path == "" || field == "" || strings.HasPrefix(field, "[") {
		return path + field
	}
	return path + "." + field
}

// Index returns the path of element i of the list at path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// comparePaths compares by bytes, but numbers by their value.
func comparePaths(a, b string) int {
	for a != "" && b != "" {
		n, m := digits(a), digits(b)
		if n > 0 && m > 0 {
			if c := cmp.Or(cmp.Compare(n, m), strings.Compare(a[:n], b[:m])); c != 0 {
				return c
			}
			a, b = a[n:], b[m:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits returns how many decimal digits s begins with.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}
