package decode_test

import (
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// parse returns the only document of a text.
func parse(t testing.TB, text string) *document.Node {
	t.Helper()
	docs, err := document.Parse([]byte(text))
	require.NoError(t, err, "%s", text)
	require.Len(t, docs, 1)
	return docs[0]
}

// fill gives everything below v that a file can set a value other than zero, each another one as far as there are enough, and writes it as YAML.
type filler struct {
	n    int
	text strings.Builder
}

func (f *filler) fill(v reflect.Value, indent string) {
	f.n++
	line := func(format string, args ...any) { fmt.Fprintf(&f.text, format+"\n", args...) }
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.AddrFrom4([4]byte{10, 1, byte(f.n >> 8), byte(f.n)})
		line(" %v", x)
		return
	case *netip.Prefix:
		*x = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(f.n)}), 16)
		line(" %v", x)
		return
	case *time.Duration:
		*x = time.Duration(f.n) * time.Second
		line(" %v", x)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		line("")
		f.fields(v, indent+"  ")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), indent)
	case reflect.Slice:
		line("")
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.text.WriteString(indent + "-")
			f.fill(v.Index(i), indent+" ")
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", f.n))
		line(" %q", v.String())
	case reflect.Bool:
		v.SetBool(true)
		line(" true")
	case reflect.Uint8:
		if _, ok := v.Interface().(fmt.Stringer); ok {
			names := decode.Names(v.Type())
			v.SetUint(uint64(1 + f.n%(len(names)-1)))
			line(" %q", names[v.Uint()])
			return
		}
		v.SetUint(2)
		line(" 2")
	case reflect.Int:
		v.SetInt(int64(f.n))
		line(" %d", f.n)
	case reflect.Uint64:
		v.SetUint(math.MaxUint64 - uint64(f.n))
		line(" %d", v.Uint())
	default:
		panic("no value for " + v.Type().String())
	}
}

func (f *filler) fields(v reflect.Value, indent string) {
	for i := range v.NumField() {
		g := v.Type().Field(i)
		code := g.Type.Kind() == reflect.Func || g.Name == "Hooks"
		switch {
		case code || !g.IsExported():
		case g.Anonymous:
			f.fields(v.Field(i), indent)
		default:
			f.text.WriteString(indent + decode.LowerCamel(g.Name) + ":")
			f.fill(v.Field(i), indent)
		}
	}
}

// Every field of a configuration can be set by a file, and nothing else happens.
func TestEveryFieldCanBeRead(t *testing.T) {
	var want, got overlay.ClusterConfig
	var f filler
	f.fields(reflect.ValueOf(&want).Elem(), "")
	var l problems.List
	r := decode.Reader{File: "c.yaml", Problems: &l, Places: make(map[string]decode.Place)}
	r.Value(parse(t, f.text.String()), &got, "")
	require.NoError(t, l.Err(), "%s", f.text.String())
	assert.Equal(t, want, got)
	assert.Greater(t, f.n, 150, "fields and elements")
	assert.Equal(t, "c.yaml:1: name", r.Places["Name"].String())
	assert.Contains(t, r.Places["NodePools[1].NodePublicIP.Prefixes[0]"].String(), ": nodePools[1].nodePublicIP.prefixes[0]")
}

// A new enumeration, or a type that no file can hold, is noticed here.
func TestFieldsHaveTypesThatFilesCanHold(t *testing.T) {
	decode.Fields(reflect.TypeFor[overlay.ClusterConfig](), func(written string, typ reflect.Type, refused string) {
		for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		isText := reflect.PointerTo(typ).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
		scalar := slices.Contains([]reflect.Kind{reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint64}, typ.Kind())
		assert.True(t, refused != "" || isText || scalar || typ.Kind() == reflect.Struct, "%s is a %v", written, typ)
		if typ.Kind() == reflect.Uint8 && typ.Implements(reflect.TypeFor[fmt.Stringer]()) {
			assert.Greater(t, len(decode.Names(typ)), 1, "%s has names %v", written, decode.Names(typ))
		}
	})
}

func TestLowerCamel(t *testing.T) {
	for name, want := range map[string]string{
		"Name": "name", "PodCIDRs": "podCIDRs", "DNSServiceIP": "dnsServiceIP", "VNet": "vnet", "NATGatewayProfile": "natGatewayProfile",
		"ICMP": "icmp", "MTU": "mtu", "TCPEstablished": "tcpEstablished", "IPFamilies": "ipFamilies", "UDP6Zero": "udp6Zero",
		"SKU": "sku", "IPs": "ips", "APIVersion": "apiVersion", "ClusterIPs": "clusterIPs", "UDP": "udp", "OSSKU": "osSKU",
	} {
		assert.Equal(t, want, decode.LowerCamel(name), name)
	}
}

type color uint8

func (c color) String() string { return []string{"red", "blue", "color(2)"}[min(c, 2)] }

type thing struct {
	Name  string            `json:"name"`
	Count int32             `json:"count"`
	Port  uint16            `json:"port"`
	Share float64           `json:"share"`
	On    bool              `json:"on"`
	Color color             `json:"color"`
	Idle  time.Duration     `json:"idle"`
	Addr  netip.Addr        `json:"addr"`
	Net   netip.Prefix      `json:"net"`
	List  []thing           `json:"list"`
	Next  *thing            `json:"next"`
	Map   map[string]string `json:"map"`
	Hook  func()            `json:"hook"`
}

func (thing) Others() ([]string, map[string]string) {
	return []string{"harmless"}, map[string]string{"skipped": "is not modelled"}
}

// All problems of a document come at once, with line, field, value and rule.
func TestProblems(t *testing.T) {
	const text = `name: [a]
count: 3000000000
port: -1
share: much
on: 1
color: green
idle: 5
addr: 10.0.0
net: 10.0.0.0
list: {a: b}
next:
  name: {a: b}
  port: 70000
  list:
  - conut: 1
  - x
  Name: other
map:
  a: [1]
hook: f
`
	var l problems.List
	r := decode.Reader{File: "f", Problems: &l}
	var x thing
	r.Value(parse(t, text), &x, "")
	assert.EqualError(t, l.Err(), `f:1: name [1 elements]: cannot be read: must be a string
f:2: count 3000000000: out of range: must fit 32 bits
f:3: port -1: out of range: 0..65535
f:4: share "much": cannot be read: must be a number
f:5: on 1: cannot be read: must be true or false
f:6: color "green": out of range: must be one of red, blue
f:7: idle 5: cannot be read: must be a duration such as 30m or 5s
f:8: addr "10.0.0": not the address of a single host: must be an address such as 10.0.0.1
f:9: net "10.0.0.0": prefix is not valid, or its host bits are not zero: must be a prefix such as 10.0.0.0/16
f:10: list {1 fields}: cannot be read: must be a list
f:12: next.name {1 fields}: cannot be read: must be a string
f:13: next.port 70000: out of range: 0..65535
f:15: next.list[0].conut 1: unknown name: did you mean count?
f:16: next.list[1] "x": cannot be read: must be a map of fields
f:17: next.Name "other": unknown name: did you mean name?
f:19: map[a] [1 elements]: cannot be read: must be a string
f:20: hook "f": unknown name: takes a function, which a file cannot give`)
	assert.Zero(t, x.Name)
	assert.Zero(t, x.Count)
}

func TestStyles(t *testing.T) {
	const text = `{"NAME": 7, "List": [{"skipped": {"deep": [1]}}, {"skipped": {"deep": []}}], "harmless": 1, "on": null}`
	var l problems.List
	var told []string
	r := decode.Reader{File: "f", Problems: &l, Style: decode.Azure, Skipped: func(at decode.Place, v *document.Node, why string) {
		told = append(told, fmt.Sprint(at, " ", v, " ", why))
	}}
	var x thing
	r.Value(parse(t, text), &x, "[3]")
	require.NoError(t, l.Err())
	assert.Equal(t, "7", x.Name)
	assert.Equal(t, []string{"f:1: [3].List[0].skipped {1 fields} is not modelled"}, told)

	r.Value(parse(t, `{"Name": "a", "name": "b"}`), &x, "")
	assert.EqualError(t, l.Err(), `f:1: name "b": duplicate name: the field stands in line 1, too`)

	l = problems.List{}
	r.Style = decode.Kubernetes
	r.Value(parse(t, "name: 7\nOn: true\non: yes\ncount: 3.0\n"), &x, "")
	assert.EqualError(t, l.Err(), "f:1: name 7: cannot be read: must be a string: put it in quotes\nf:2: On true: unknown name: did you mean on?")
	assert.True(t, x.On)
	assert.EqualValues(t, 3, x.Count)
}

// Lists replace, those that are to be extended do not.
func TestExtend(t *testing.T) {
	type holder struct {
		Things []overlay.NodePool
		Words  []string
	}
	h := holder{[]overlay.NodePool{{Name: "a", Count: 1, MaxPods: 30}, {Name: "b"}}, []string{"x", "y"}}
	var l problems.List
	r := decode.Reader{File: "f", Problems: &l, Places: make(map[string]decode.Place), Extend: map[reflect.Type]func(reflect.Value, *document.Node) int{
		reflect.TypeFor[overlay.NodePool](): func(list reflect.Value, item *document.Node) int {
			return slices.IndexFunc(list.Interface().([]overlay.NodePool), func(p overlay.NodePool) bool { return p.Name == item.TextOf("name") })
		},
	}}
	r.Value(parse(t, "things: [{name: c, count: 9}, {name: a, count: 5}]\nwords: [z]"), &h, "")
	require.NoError(t, l.Err())
	assert.Equal(t, holder{[]overlay.NodePool{{Name: "a", Count: 5, MaxPods: 30}, {Name: "b"}, {Name: "c", Count: 9}}, []string{"z"}}, h)
	assert.Equal(t, "things[1].count", r.Places["Things[0].Count"].Field)
	assert.Equal(t, "things[0].count", r.Places["Things[2].Count"].Field)
}
