package scenario

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Play plays a text and returns it with the output that it has. name is what errors
// call the file.
func Play(name, text string) (string, error) {
	s := &stage{}
	defer s.close()
	var out strings.Builder
	var printed []string
	expected := false // between dashes and the empty line
	number := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		number++
		switch {
		case line == "----":
			out.WriteString("----\n")
			for _, p := range printed {
				out.WriteString(p + "\n")
			}
			printed, expected = nil, true
		case expected && line != "":
		case line == "":
			out.WriteString("\n")
			expected = false
		default:
			out.WriteString(line + "\n")
			command, _, _ := strings.Cut(line, "#")
			if words := strings.Fields(command); len(words) > 0 {
				lines, err := s.do(words)
				if err != nil {
					return "", fmt.Errorf("%s:%d: %s: %w", name, number, words[0], err)
				}
				printed = append(printed, lines...)
			}
		}
	}
	if len(printed) > 0 {
		return "", fmt.Errorf("%s:%d: the last commands have no line of dashes", name, number)
	}
	return out.String(), nil
}

// command is one command of the language.
type command struct {
	usage string // what follows its name
	scene bool   // it describes the scene
	do    func(s *stage, words []string) ([]string, error)
}

// commands are all commands by name. It is a function because repeat does commands.
func commands() map[string]command {
	return map[string]command{
		"instance": {"NAME [addr=IP].. [inside=PREFIX].. [public=IP].. [realm=N] [ports=FRONTEND:FIRST+COUNT[/tcp|/udp]]..", true, (*stage).instance},
		"frontend": {"IP..", true, (*stage).frontend},
		"route":    {"PREFIX translate|node|pass|drop [both]", true, (*stage).route},
		"options":  {"[WORD].. [KEY=VALUE]..", true, (*stage).options},
		"preset":   {"NAME [ports=N] [idle=DURATION] [seed=N]", true, (*stage).preset},
		"balancer": {"[basic] [ports=N] [idle=DURATION] [reset]", true, (*stage).balancer},
		"rule":     {"NAME FRONTEND:PORT[/tcp|/udp] [backend=PORT] [probe] [floating] [reset] [idle=DURATION] [spread=source|source+protocol]", true, (*stage).rule},
		"natpool":  {"NAME FRONTEND:PORT[/tcp|/udp] last=PORT backend=PORT", true, (*stage).natPool},
		"gateway":  {"[v2] [idle=DURATION]", true, (*stage).gateway},
		"cluster":  {"nodes=N [ips=N] [ports=N] [idle=DURATION] [dual]", true, (*stage).cluster},
		"refused":  {"", true, (*stage).refused},

		"outbound":    {"SRC > DST tcp|udp|echo|error [WORD].. [KEY=VALUE]..", false, (*stage).outbound},
		"inbound":     {"SRC > DST tcp|udp|echo|error [WORD].. [KEY=VALUE]..", false, (*stage).inbound},
		"reply":       {"tcp|udp|echo [WORD].. [KEY=VALUE]..", false, (*stage).reply},
		"advance":     {"DURATION", false, (*stage).advance},
		"steps":       {"DURATION", false, (*stage).steps},
		"wait":        {"DURATION", false, (*stage).wait},
		"repeat":      {"N COMMAND", true, (*stage).repeat},
		"down":        {"NAME..", true, func(s *stage, names []string) ([]string, error) { return s.machines(names, true) }},
		"up":          {"NAME..", true, func(s *stage, names []string) ([]string, error) { return s.machines(names, false) }},
		"reconfigure": {"", false, (*stage).reconfigure},

		"stats":     {"", false, (*stage).stats},
		"frontends": {"", false, (*stage).frontends},
		"sessions":  {"", false, (*stage).sessions},
		"traffic":   {"", false, (*stage).traffic},
		"digest":    {"", false, (*stage).digestSoFar},
	}
}

// errUsage is a command that is written wrongly.
var errUsage = errors.New("wrong usage")

// do does one command and returns what it prints.
func (s *stage) do(words []string) ([]string, error) {
	c, ok := commands()[words[0]]
	if !ok {
		return nil, errors.New("no such command")
	}
	if !c.scene {
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	lines, err := c.do(s, words[1:])
	if errors.Is(err, errUsage) {
		err = fmt.Errorf("%w; it is %s %s", err, words[0], c.usage)
	}
	return lines, err
}

// args are the words of a command by what they are: KEY=VALUE, or words alone.
type args struct {
	values map[string][]string
	words  []string
	err    error // the first
}

// parse sorts words. Only the given keys and words may occur; a key that ends with
// "*" may occur several times.
func parse(words []string, keys, alone string) *args {
	a := &args{values: map[string][]string{}}
	for _, w := range words {
		key, value, isValue := strings.Cut(w, "=")
		switch several := has(keys, key+"*"); {
		case !isValue && has(alone, w):
			a.words = append(a.words, w)
		case isValue && (several || has(keys, key) && len(a.values[key]) == 0):
			a.values[key] = append(a.values[key], value)
		default:
			a.fail(fmt.Errorf("%q: %w", w, errUsage))
		}
	}
	return a
}

// has reports whether a list, with spaces between, has a word.
func has(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// is reports whether there is a word.
func (a *args) is(word string) bool { return has(strings.Join(a.words, " "), word) }

// text returns the value of a key, or "".
func (a *args) text(key string) string {
	if v := a.values[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// number returns the value of a key, 0..most, or 0 if there is none.
func (a *args) number(key string, most uint64) uint64 {
	v := a.text(key)
	if v == "" && len(a.values[key]) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > most {
		a.fail(fmt.Errorf("%s=%s: no number of 0..%d: %w", key, v, most, errUsage))
	}
	return n
}

// duration returns the value of a key, or 0 if there is none.
func (a *args) duration(key string) time.Duration {
	v := a.text(key)
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		a.fail(fmt.Errorf("%s=%s: no duration: %w", key, v, errUsage))
	}
	return d
}

// each parses all values of a key.
func each[T any](a *args, key string, parse func(string) (T, error)) (all []T) {
	for _, v := range a.values[key] {
		x, err := parse(v)
		if err != nil {
			a.fail(fmt.Errorf("%s=%s: %w: %w", key, v, err, errUsage))
		}
		all = append(all, x)
	}
	return all
}

// Commands returns the names of all commands, sorted.
func Commands() []string { return slices.Sorted(maps.Keys(commands())) }
