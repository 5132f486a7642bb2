// Flow logs of Azure: of network security groups and of virtual networks. Both are JSON whose
// flows are tuples of values in strings.

package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// tuple is one of a log.
type tuple struct {
	at    time.Time
	line  int
	key   key
	state string // B, C or E
	bytes uint64
}

// flowTuples is the name of the lists of tuples.
const flowTuples = "flowTuples"

// azure reads a log, wherever in it lists of tuples are.
func (r *reader) azure(data []byte) {
	x := json.NewDecoder(bytes.NewReader(data))
	x.UseNumber()
	var tuples []tuple
	line, counted := 1, 0
	within := []string{""} // names of the lists around; "" of what is none
	name := ""             // of the value that comes
	inObject := []bool{false}
	lists := 0
	for isKey := false; ; {
		token, err := x.Token()
		at := int(x.InputOffset())
		line += bytes.Count(data[counted:at], []byte{'\n'})
		counted = at
		if err != nil {
			if !errors.Is(err, io.EOF) || len(inObject) > 1 {
				r.bad(line, "JSON", "", problems.ErrSyntax, "%v", err)
			}
			break
		}
		top := len(inObject) - 1
		if isKey = inObject[top] && !isKey; isKey {
			if key, ok := token.(string); ok {
				name = key
				continue
			}
		}
		isKey = false
		if token == json.Delim('}') || token == json.Delim(']') {
			inObject, within = inObject[:top], within[:top]
			continue
		}
		switch text, isString := token.(string); {
		case inObject[top] && name == flowTuples:
			if lists++; token != json.Delim('[') {
				r.bad(line, flowTuples, written(token), problems.ErrSyntax, "must be a list")
			}
		case within[top] != flowTuples:
		case !isString:
			r.bad(line, flowTuples, written(token), problems.ErrSyntax, "a tuple must be a string")
		default:
			if t, ok := r.tuple(line, text); ok {
				tuples = append(tuples, t)
			}
		}
		if token == json.Delim('{') || token == json.Delim('[') {
			inObject = append(inObject, token == json.Delim('{'))
			list := ""
			if token == json.Delim('[') && inObject[top] {
				list = name
			}
			within = append(within, list)
		}
	}
	if lists == 0 && r.problems.Len() == 0 {
		r.bad(1, flowTuples, "", problems.ErrMissing, "there is no list of this name in the file")
	}
	if r.problems.Len() > 0 {
		return
	}
	slices.SortStableFunc(tuples, func(a, b tuple) int { return a.at.Compare(b.at) })
	for _, t := range tuples {
		at, ok := r.since(t.at)
		if !ok {
			r.bad(t.line, flowTuples, t.at.UTC().Format(time.RFC3339), problems.ErrOutOfRange, far)
			return
		}
		if t.state == "B" {
			delete(r.under, t.key) // one before it has had no end
		}
		f := r.see(t.line, t.key, "", at)
		if f == nil {
			return
		}
		f.Bytes += t.bytes
		if t.state == "E" {
			r.over(t.key, f, Closed)
		}
	}
}

// written returns a token as it is written, but for quotes; of an object or a list its beginning.
func written(token json.Token) string {
	if token == nil {
		return "null"
	}
	return fmt.Sprint(token)
}

// tuple reads a tuple; ok is false if it is left out.
func (r *reader) tuple(line int, text string) (t tuple, ok bool) {
	f := strings.Split(text, ",")
	bad := func(rule string) { r.bad(line, flowTuples, text, problems.ErrSyntax, "%s", rule) }
	if len(f) == 8 {
		bad("is of version 1, which does not tell how long flows last; version 2 does")
		return t, false
	}
	if len(f) != 13 {
		bad("must have 13 values")
		return t, false
	}
	protocol, direction, allowed, state := f[5], f[6], f[7] != "D", f[7] // of virtual networks
	switch protocol {
	case "T", "U":
		state = f[8]
	case "6":
		protocol = "T"
	case "17":
		protocol = "U"
	default:
		r.skip("protocol " + protocol)
		return t, false
	}
	ms, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil || ms < 0 || ms > 1<<43 {
		bad("the time must be that of Unix")
		return t, false
	}
	if ms < 1e11 { // seconds, as of security groups
		ms *= 1000
	}
	src, err1 := parseEnd(f[1], f[3])
	dst, err2 := parseEnd(f[2], f[4])
	if err1 != nil || err2 != nil {
		bad("must have addresses and ports")
		return t, false
	}
	for _, n := range []string{f[10], f[12]} {
		if size, err := strconv.ParseUint(n, 10, 64); err == nil {
			t.bytes += size
		} else if n != "" {
			bad("bytes must be whole numbers")
			return t, false
		}
	}
	switch {
	case !allowed || state == "D":
		r.skip("denied")
	case direction != "O":
		r.skip("inbound")
	case !flow.IsHost(dst.Addr()):
		r.skip(toMany)
	case state != "B" && state != "C" && state != "E":
		bad("the state must be B, C, E or D")
	default:
		t.at, t.line, t.key, t.state = time.UnixMilli(ms), line, key{src, dst, protocol == "U"}, state
		return t, true
	}
	return t, false
}

// parseEnd reads a socket of a tuple.
func parseEnd(addr, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if p == 0 {
		err = problems.ErrOutOfRange
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), err
}
