// Where things stand in the files, and problems of overlay told by that.

package manifest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

// sources is where the fields of a configuration stand.
type sources struct {
	places map[string]decode.Place // by Go path
	whole  decode.Place            // of what describes the cluster; its zero value is nowhere
}

// nearest returns where a field of the configuration stands, or else what it is a part of.
func (s *sources) nearest(golang string) decode.Place {
	for at := golang; at != ""; at = parent(at) {
		if p, ok := s.places[at]; ok {
			return p
		}
	}
	return s.whole
}

// parent cuts the last element off a Go path; "" has none.
func parent(golang string) string {
	depth := 0
	for i := len(golang) - 1; i > 0; i-- {
		switch golang[i] {
		case ']':
			depth++
		case '[':
			if depth--; depth == 0 {
				return golang[:i]
			}
		case '.':
			if depth == 0 {
				return golang[:i]
			}
		}
	}
	return ""
}

// relocated is a problem of overlay that is told by another place.
type relocated struct {
	text string
	err  error
}

// Error returns what is wrong, without the place.
func (r relocated) Error() string { return r.text }

// Unwrap returns the problem as overlay has it.
func (r relocated) Unwrap() error { return r.err }

// findings takes what overlay says is wrong.
type findings struct {
	*problems.List

	// certain is whether only that counts which is wrong in whatever cluster: values that cannot be by
	// themselves, as opposed to those that do not go with others, which may not have been read.
	certain bool
}

// takes reports whether a problem counts.
func (f findings) takes(value string, err error) bool {
	if !f.certain {
		return true
	}
	_, isAddr := parseAddress(value)
	_, notPrefix := netip.ParsePrefix(value)
	switch {
	case strings.HasPrefix(value, "invalid "): // what was not read
		return false
	case errors.Is(err, flow.ErrOutOfRange):
		return !isAddr && notPrefix != nil
	}
	return slices.ContainsFunc([]error{flow.ErrSyntax, flow.ErrPrefix, flow.ErrAddress, flow.ErrDuplicateName, overlay.ErrReserved}, func(kind error) bool { return errors.Is(err, kind) })
}

// relocate adds what overlay says is wrong. at finds the place of a Go path, by the
// value that the problem shows where that says more.
func relocate(to findings, err error, at func(golang, value string) decode.Place) {
	if err == nil {
		return
	}
	var joined interface{ Unwrap() []error }
	all := []error{err}
	if errors.As(err, &joined) {
		all = joined.Unwrap()
	}
	for _, e := range all {
		text := e.Error()
		golang, rest := splitPath(text)
		value, what, ok := strings.Cut(rest, ": ")
		if !ok {
			value, what = "", rest
		}
		if !to.takes(value, e) {
			continue
		}
		where := at(golang, value).String()
		if value != "" {
			where += " " + value
		}
		to.Include(where, relocated{what, e})
	}
}

// splitPath cuts the Go path off the beginning of a problem, and what follows it: its value, if it shows one,
// and what is wrong. There is no path if the problem names no field.
func splitPath(text string) (golang, rest string) {
	depth := 0
	for i, c := range text {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth > 0:
		case c == ' ':
			return isPath(text[:i], text[i+1:])
		case c == ':':
			if strings.HasPrefix(text[i:], ": ") {
				return isPath(text[:i], text[i:])
			}
		}
	}
	return "", text
}

// isPath returns its arguments if the first is a Go path, and else the text of both.
func isPath(golang, rest string) (string, string) {
	if golang == "" || golang[0] < 'A' || golang[0] > 'Z' {
		return "", golang + " " + rest
	}
	return golang, rest
}

// at returns where a field of the configuration stands.
func (s *sources) at(golang, _ string) decode.Place {
	p := s.nearest(golang)
	if _, exact := s.places[golang]; !exact && golang != "" {
		p.Field = written(golang) // what is missing has no place of its own
	}
	return p
}

// written returns a Go path as a cluster file has it.
func written(golang string) string {
	parts := strings.Split(golang, ".")
	for i, p := range parts {
		name, index, indexed := strings.Cut(p, "[")
		if parts[i] = decode.LowerCamel(name); indexed {
			parts[i] += "[" + index
		}
	}
	return strings.Join(parts, ".")
}
