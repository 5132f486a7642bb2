// Package document reads YAML and JSON into trees whose every node knows its line.
//
// Terminology:
//   - Document: one value of a file. A YAML file has any number of them, a JSON file one.
//   - Node: a value in a document: a map, a list or a scalar.
//
// JSON is read by the rules of JSON, not as the YAML that it nearly is. Of YAML the words of
// 1.1 for true and false are truth values without quotes (yes, no, on, off, y, n), as
// Kubernetes reads them; their text stays as it is written. Aliases are copies of what they
// stand for, and merge keys (<<) are merged; keys that occur twice in a map are an error, as
// are tags that say more than what is there (!!str makes a string). It refuses to know what any
// document means.
//
// Everything here is a pure function. Memory is bounded by [MaxBytes], [MaxYAMLBytes],
// [MaxNodes], [MaxAliased] and [MaxDepth].
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file. They are our choice.
const (
	MaxBytes     = 64 << 20 // of JSON
	MaxYAMLBytes = 16 << 20
	MaxNodes     = 4 << 20
	MaxAliased   = 100_000 // nodes that aliases stand for
	MaxDepth     = 100     // of maps and lists in each other
)

// Kind is what a node is.
type Kind uint8

// The kinds. Numbers and truth values in quotes are strings.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Map
)

// Node is a value and where it stands.
type Node struct {
	Kind   Kind
	Text   string // of a scalar, without quotes
	Line   int    // 1 is the first
	Block  bool   // it is a literal text of YAML, which begins in the line below
	Fields []Field
	Items  []*Node
}

// Field is an entry of a map.
type Field struct {
	Name  string
	Kind  Kind // of the name
	Line  int  // of the name
	Value *Node
}

// Field returns the value of a field of a map, or nil.
func (n *Node) Field(name string) *Node {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return n.Fields[i].Value
		}
	}
	return nil
}

// TextOf returns the text of a field that is a scalar, or "".
func (n *Node) TextOf(name string) string {
	if f := n.Field(name); f != nil {
		return f.Text
	}
	return ""
}

// String describes a value in a few words for an error: scalars as they are.
func (n *Node) String() string {
	switch n.Kind {
	case Null:
		return "null"
	case List:
		return fmt.Sprintf("[%d elements]", len(n.Items))
	case Map:
		return fmt.Sprintf("{%d fields}", len(n.Fields))
	case String:
		return shorten(strconv.Quote(n.Text))
	}
	return shorten(n.Text)
}

// shorten cuts a text that is too long for an error.
func shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Error is what is wrong with a file as such.
type Error struct {
	Line int // 0 if it is about no line
	Text string
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// Parse returns the documents of a file, those of YAML that are empty left out. The error joins one
// for each document that cannot be read, an *[Error]; the others come all the same.
func Parse(data []byte) ([]*Node, error) {
	if len(data) > MaxBytes {
		return nil, &Error{Text: fmt.Sprintf("has %d bytes, more than %d", len(data), MaxBytes)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch first := bytes.TrimLeft(data, " \t\r\n"); {
	case len(first) == 0:
		return nil, nil
	case json.Valid(data):
		n, err := parseJSON(data)
		if err != nil {
			return nil, err
		}
		return []*Node{n}, nil
	case first[0] == '{' || first[0] == '[':
		docs, err := parseYAML(data)
		if err != nil { // it was rather meant to be JSON
			return nil, jsonError(data, err)
		}
		return docs, nil
	}
	return parseYAML(data)
}

// ParseText is Parse of the text of a string, with lines of the file that the string is in: of a literal text of YAML
// each value has its own, and otherwise all have that of the string.
func ParseText(n *Node) ([]*Node, error) {
	docs, err := Parse([]byte(n.Text))
	line := func(of int) int {
		if n.Block {
			return n.Line + of
		}
		return n.Line
	}
	for _, d := range docs {
		d.renumber(line)
	}
	var moved []error
	for _, e := range Errors(err) {
		moved = append(moved, &Error{line(e.Line), e.Text})
	}
	return docs, errors.Join(moved...)
}

// renumber changes the lines of a value and of all that is in it.
func (n *Node) renumber(line func(int) int) {
	n.Line = line(n.Line)
	for i := range n.Fields {
		n.Fields[i].Line = line(n.Fields[i].Line)
		n.Fields[i].Value.renumber(line)
	}
	for _, item := range n.Items {
		item.renumber(line)
	}
}

// jsonError says where JSON is broken, or returns otherwise.
func jsonError(data []byte, otherwise error) error {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(any)); errors.As(err, &syntax) {
		at := min(int(syntax.Offset), len(data))
		return &Error{1 + bytes.Count(data[:at], []byte{'\n'}), "is no JSON: " + syntax.Error()}
	}
	return otherwise
}

// yamlLine is how errors of YAML name a line.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// Errors returns the parts of an error of [Parse].
func Errors(err error) (all []*Error) {
	switch e := err.(type) {
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			all = append(all, Errors(part)...)
		}
	}
	return all
}

// marker is a line that begins a document of YAML, wherever it stands.
var marker = regexp.MustCompile(`(?m)^---(?:[ \t\r].*)?$`)

// parseYAML reads all documents of YAML. After one that cannot be parsed it goes on where the next one begins, if it
// is known in which line that was.
func parseYAML(data []byte) (docs []*Node, err error) {
	if len(data) > MaxYAMLBytes {
		return nil, &Error{Text: fmt.Sprintf("has %d bytes of YAML, more than %d; JSON may have %d", len(data), MaxYAMLBytes, MaxBytes)}
	}
	t := tree{}
	var errs []error
	for data != nil {
		more, broken := t.documents(data)
		if docs = append(docs, more...); broken == nil {
			break
		}
		if broken.Line == 0 && characters.MatchString(broken.Text) {
			broken.Line = unreadable(data)
		}
		if errs = append(errs, broken); len(errs) == maxErrors || broken.Line == 0 || t.full() {
			break
		}
		data = after(data, broken.Line)
	}
	return docs, errors.Join(errs...)
}

// maxErrors is how many documents of a file may be wrong until it is given up: our choice.
const maxErrors = 20

// after returns the data from the first document that begins after a line, with as many empty lines before it as there
// are lines; nil if there is none.
func after(data []byte, line int) []byte {
	before, at := 0, 0
	for before < line {
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			return nil
		}
		before, at = before+1, at+n+1
	}
	m := marker.FindIndex(data[at:])
	if m == nil {
		return nil
	}
	before += bytes.Count(data[at:at+m[0]], []byte{'\n'})
	return append(bytes.Repeat([]byte{'\n'}, before), data[at+m[0]:]...)
}

// characters are errors of YAML about characters that it has not, which come without a line.
var characters = regexp.MustCompile("control characters|UTF-8|Unicode")

// unreadable returns the line of the first character that YAML has not (YAML 1.2 section 5.1); 0 if all are of it.
func unreadable(data []byte) int {
	for line := 1; len(data) > 0; {
		c, n := utf8.DecodeRune(data)
		switch {
		case c == '\n':
			line++
		case c == '\t' || c == '\r' || c == '\u0085':
		case c == utf8.RuneError && n == 1, c < ' ', 0x7f <= c && c < 0xa0, c == 0xfffe, c == 0xffff:
			return line
		}
		data = data[n:]
	}
	return 0
}

// documents reads documents up to the first one that cannot be read.
func (t *tree) documents(data []byte) (docs []*Node, broken *Error) {
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return docs, yamlError(err)
		}
		n, err := t.convert(&doc, 0)
		if errors.As(err, &broken) {
			return docs, broken
		}
		if n.Kind != Null {
			docs = append(docs, n)
		}
	}
}

// yamlError returns an error of YAML with its line. What the parser finds, as opposed to the
// scanner, is told by lines that begin with 0.
func yamlError(err error) *Error {
	m := yamlLine.FindStringSubmatch(err.Error())
	line, text := 0, err.Error()[len(m[0]):]
	if m[1] != "" {
		line, _ = strconv.Atoi(m[1]) // digits
		if strings.HasPrefix(text, "did not find expected") {
			line++
		}
	}
	if strings.HasSuffix(text, "cannot start any token") {
		text += ": a tab does not indent, and % @ ` stand in quotes"
	}
	return &Error{line, "is no YAML: " + text}
}

// tree converts nodes of YAML, and counts them.
type tree struct {
	nodes, aliased int
	inAlias        int // how many aliases the present node is in
}

// full reports whether there are too many nodes.
func (t *tree) full() bool { return t.nodes > MaxNodes || t.aliased > MaxAliased }

// count counts a node at a depth.
func (t *tree) count(line, depth int) error {
	if t.nodes++; t.nodes > MaxNodes {
		return &Error{line, fmt.Sprintf("has more than %d values", MaxNodes)}
	}
	if t.inAlias > 0 {
		if t.aliased++; t.aliased > MaxAliased {
			return &Error{line, fmt.Sprintf("has aliases that stand for more than %d values", MaxAliased)}
		}
	}
	if depth > MaxDepth {
		return &Error{line, fmt.Sprintf("is nested more than %d deep", MaxDepth)}
	}
	return nil
}

// convert converts a node of YAML.
func (t *tree) convert(y *yaml.Node, depth int) (*Node, error) {
	if err := t.count(y.Line, depth); err != nil {
		return nil, err
	}
	if err := tagged(y); err != nil {
		return nil, err
	}
	n := &Node{Line: y.Line}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 1 {
			return t.convert(y.Content[0], depth+1)
		}
	case yaml.AliasNode:
		t.inAlias++
		a, err := t.convert(y.Alias, depth+1)
		t.inAlias--
		if err == nil {
			a.Line = y.Line
		}
		return a, err
	case yaml.SequenceNode:
		n.Kind = List
		for _, c := range y.Content {
			item, err := t.convert(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, item)
		}
	case yaml.MappingNode:
		n.Kind = Map
		return n, t.fill(n, y, depth)
	case yaml.ScalarNode:
		n.Kind, n.Text, n.Block = scalarKind(y), y.Value, y.Style&yaml.LiteralStyle != 0
		if n.Kind == Number && endless.MatchString(n.Text) {
			return nil, &Error{y.Line, fmt.Sprintf("has %s, which is no number in Kubernetes", n.Text)}
		}
	}
	return n, nil
}

// fill converts the entries of a map. Those of merged maps come last, where they have no
// entry of their own.
func (t *tree) fill(n *Node, y *yaml.Node, depth int) error {
	var merged []*Node
	known := make(map[string]int, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		value, err := t.convert(y.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return &Error{key.Line, "has a map or list as a key"}
		}
		if err := tagged(key); err != nil {
			return err
		}
		if key.ShortTag() == "!!merge" {
			switch value.Kind {
			case Map:
				merged = append(merged, value)
			case List:
				merged = append(merged, value.Items...)
			default:
				return &Error{key.Line, "merges (<<) what is no map"}
			}
			continue
		}
		if before, ok := known[key.Value]; ok {
			return &Error{key.Line, fmt.Sprintf("has the key %q twice, first in line %d", key.Value, before)}
		}
		known[key.Value] = key.Line
		n.Fields = append(n.Fields, Field{key.Value, scalarKind(key), key.Line, value})
	}
	for _, m := range merged {
		if m.Kind != Map {
			return &Error{m.Line, "merges (<<) what is no map"}
		}
		for _, f := range m.Fields {
			if _, ok := known[f.Name]; !ok {
				known[f.Name] = f.Line
				n.Fields = append(n.Fields, f)
			}
		}
	}
	return nil
}

// tagged returns an error if a node has a tag that makes something else of it than its form says.
func tagged(y *yaml.Node) error {
	plain := map[yaml.Kind]string{yaml.MappingNode: "!!map", yaml.SequenceNode: "!!seq", yaml.ScalarNode: "!!str"}
	if tag := y.ShortTag(); y.Style&yaml.TaggedStyle != 0 && tag != plain[y.Kind] {
		return &Error{y.Line, fmt.Sprintf("has the tag %s: write the value without it", shorten(tag))}
	}
	return nil
}

// scalarKind returns the kind of a scalar.
func scalarKind(y *yaml.Node) Kind {
	switch y.ShortTag() {
	case "!!null":
		return Null
	case "!!bool":
		return Bool
	case "!!int", "!!float":
		return Number
	}
	if _, ok := words[y.Value]; ok && y.Style == 0 {
		return Bool
	}
	return String
}

// endless are the numbers of YAML that JSON has not.
var endless = regexp.MustCompile(`(?i)^[+-]?\.(inf|nan)$`)

// words are those of YAML 1.1 for truth values beside true and false.
var words = map[string]bool{
	"y": true, "Y": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"n": false, "N": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

// parseJSON reads a value of JSON, which is valid.
func parseJSON(data []byte) (*Node, error) {
	r := jsonReader{data: data, line: 1}
	r.Decoder = json.NewDecoder(bytes.NewReader(data))
	r.UseNumber()
	token, err := r.next()
	if err != nil {
		return nil, err
	}
	return r.value(token, 1)
}

// jsonReader reads token by token and counts lines.
type jsonReader struct {
	*json.Decoder
	tree
	data []byte
	at   int // up to where lines have been counted
	line int // of the last token
}

// next returns the next token.
func (r *jsonReader) next() (json.Token, error) {
	token, err := r.Token()
	if err != nil {
		return nil, &Error{r.line, "is no JSON: " + err.Error()}
	}
	to := int(r.InputOffset())
	r.line += bytes.Count(r.data[r.at:to], []byte{'\n'})
	r.at = to
	return token, nil
}

// value returns the value that begins with a token.
func (r *jsonReader) value(token json.Token, depth int) (*Node, error) {
	if err := r.count(r.line, depth); err != nil {
		return nil, err
	}
	n := &Node{Line: r.line}
	switch v := token.(type) {
	case nil:
		n.Text = "null"
	case bool:
		n.Kind, n.Text = Bool, strconv.FormatBool(v)
	case json.Number:
		n.Kind, n.Text = Number, v.String()
	case string:
		n.Kind, n.Text = String, v
	case json.Delim:
		if v == '[' {
			return n, r.list(n, depth)
		}
		return n, r.object(n, depth)
	}
	return n, nil
}

// list reads the elements of a list.
func (r *jsonReader) list(n *Node, depth int) error {
	n.Kind = List
	for {
		token, err := r.next()
		if err != nil || token == json.Delim(']') {
			return err
		}
		item, err := r.value(token, depth+1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
	}
}

// object reads the entries of a map.
func (r *jsonReader) object(n *Node, depth int) error {
	n.Kind = Map
	known := make(map[string]int)
	for {
		token, err := r.next()
		if err != nil || token == json.Delim('}') {
			return err
		}
		f := Field{Kind: String, Line: r.line}
		f.Name, _ = token.(string) // keys are strings, the decoder sees to it
		if before, ok := known[f.Name]; ok {
			return &Error{r.line, fmt.Sprintf("has the key %q twice, first in line %d", f.Name, before)}
		}
		known[f.Name] = r.line
		if token, err = r.next(); err != nil {
			return err
		}
		if f.Value, err = r.value(token, depth+1); err != nil {
			return err
		}
		n.Fields = append(n.Fields, f)
	}
}

// AppendJSON appends the value as JSON.
func (n *Node) AppendJSON(b []byte) []byte {
	switch n.Kind {
	case Null:
		return append(b, "null"...)
	case Bool:
		return strconv.AppendBool(b, n.IsTrue())
	case Number:
		if json.Valid([]byte(n.Text)) {
			return append(b, n.Text...)
		}
		return append(b, n.Decimal()...)
	case List:
		b = append(b, '[')
		for i, item := range n.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.AppendJSON(b)
		}
		return append(b, ']')
	case Map:
		b = append(b, '{')
		for i, f := range n.Fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = f.Value.AppendJSON(append(appendQuoted(b, f.Name), ':'))
		}
		return append(b, '}')
	}
	return appendQuoted(b, n.Text)
}

// Decimal returns a number as JSON and Kubernetes write it: 0o17 is 15, 1_000 and 1e3 are 1000.
func (n *Node) Decimal() string {
	digits := strings.ReplaceAll(n.Text, "_", "")
	if i, err := strconv.ParseInt(digits, 0, 64); err == nil {
		return strconv.FormatInt(i, 10)
	}
	if u, err := strconv.ParseUint(digits, 0, 64); err == nil {
		return strconv.FormatUint(u, 10)
	}
	f, err := strconv.ParseFloat(digits, 64)
	text, errJSON := json.Marshal(f)
	if err != nil || errJSON != nil { // of JSON, and too large
		return n.Text
	}
	return string(text)
}

// IsTrue reports whether a truth value is true.
func (n *Node) IsTrue() bool { return words[n.Text] || strings.EqualFold(n.Text, "true") }

// appendQuoted appends a string of JSON.
func appendQuoted(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // of a string it does not fail
	return append(b, q...)
}
