// The door: files in, a cluster out, or everything that is wrong with them.

package manifest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// ErrNotModelled marks what would make all else wrong if it were left out, such as another
// network plugin. What may be left out is in [Cluster.NotModelled] instead.
var ErrNotModelled = errors.New("not modelled")

// File is a file to read.
type File struct {
	Name string // for errors; of no other meaning
	Data []byte // at most 64 MiB of JSON or 16 MiB of YAML
}

// Cluster is what files say: a cluster, and what is to run in it.
type Cluster struct {
	// Config is the cluster as overlay takes it, valid. Without any description of a
	// cluster it is that of AKS by default: one pool of three nodes.
	Config overlay.ClusterConfig

	Services  []Service  // in the order of the files
	Workloads []Workload // likewise

	// NotModelled is what the files say and Config, Services and Workloads do not, in the
	// order of the files.
	NotModelled []Omission

	pools    []pool // as those of Config
	policies policies
	sources  sources
}

// Omission is something that a file says and the cluster is without.
type Omission struct {
	File   string // as in [File].Name
	Line   int    // 1 is the first; 0 if it is about no line
	Field  string // as the file has it, such as "spec.affinity"
	Value  string // in a few words
	Reason string // and what stands in its place
}

// String returns "file:line: field value: reason".
func (o Omission) String() string {
	at := decode.Place{File: o.File, Line: o.Line, Field: o.Field}.String()
	if o.Value != "" {
		at += " " + o.Value
	}
	return at + ": " + o.Reason
}

// Read reads files: Kubernetes manifests, what az prints, and cluster files, in any order and
// each as often as the package comment says. The error joins every problem of all files, what is
// no YAML, what has wrong values and what cannot be together with the rest, as far as that could be
// read. It shows a hundred, each with file, line, field, value and rule; it wraps the
// sentinels of packages flow, lb and overlay, and [ErrNotModelled]. Then there is no
// cluster. What is valid Kubernetes and cannot be modelled is no error but in NotModelled.
//
// Read is a pure function. Cost: O(bytes), and once that of the cluster, in which Services and host
// ports are tried, or of a large one that of a cluster with a node for each pool, and of all of it if something
// is wrong with that or internal Services have addresses of their status.
func Read(files ...File) (*Cluster, error) {
	c := &Cluster{sources: sources{places: make(map[string]decode.Place)}, policies: policies{namespaces: make(map[string]map[string]string)}}
	r := reader{cluster: c, sources: &c.sources, objects: make(map[string]decode.Place)}
	for _, f := range files {
		r.files = append(r.files, f.Name)
		r.file(f)
	}
	r.describe()
	r.lost = r.problems.Len() > 0
	for _, o := range r.manifests {
		r.object(o)
	}
	r.finish()
	r.try()
	r.keepOrder()
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// maxOmissions is how many omissions are told one by one; our choice.
const maxOmissions = 1000

// reader is one reading of files.
type reader struct {
	files    []string // their names
	problems problems.List
	cluster  *Cluster
	omitted  int  // beyond maxOmissions
	lost     bool // some of what describes the cluster, or may do so, could not be read

	// Documents by what they are.
	managed   []doc // az aks show
	pools     []doc // elements of az aks nodepool list
	rules     []doc // elements of az network lb outbound-rule list
	around    network
	described []doc // cluster files
	manifests []object

	asked []asked // of what az prints and AKS does not always grant

	objectDecoder *decode.Reader // one for all objects: it knows their types by then

	*sources                          // of the configuration
	addresses map[string]string       // of resources of Azure, by name or id in small letters
	objects   map[string]decode.Place // of Kubernetes, by kind and name
	owned     map[string]bool         // workloads whose pods are in the files
	rolledOut map[string]string       // the Deployments that ReplicaSets are of, both by name
	servings  map[string][]*serving   // by name of the Service

	reconciled, masqLinkLocal bool // of ip-masq-agent: AKS's own map is there; a map wants it
}

// doc is a document of a file, or a part of it.
type doc struct {
	file string
	node *document.Node
	path string // of the part; "" for all of it
}

// bad notes a problem of a document.
func (r *reader) bad(d doc, kind error, rule string, args ...any) {
	r.problems.Add(decode.Place{File: d.file, Line: d.node.Line, Field: d.path}.String(), problems.Raw(d.node.String()), kind, rule, args...)
}

// badAt notes a problem at a place.
func (r *reader) badAt(at decode.Place, value any, kind error, rule string, args ...any) {
	if s, ok := value.(string); ok && s != "" {
		value = problems.Rawf("%q", s)
	} else if value == nil || value == "" {
		value = problems.None
	}
	r.problems.Add(at.String(), value, kind, rule, args...)
}

// omit tells what is left out.
func (r *reader) omit(at decode.Place, value, reason string, args ...any) {
	if len(r.cluster.NotModelled) >= maxOmissions {
		r.omitted++
		return
	}
	r.cluster.NotModelled = append(r.cluster.NotModelled, Omission{at.File, at.Line, at.Field, value, fmt.Sprintf(reason, args...)})
}

// decoder returns what reads documents of a file.
func (r *reader) decoder(style decode.Style, file string) *decode.Reader {
	return &decode.Reader{Style: style, File: file, Problems: &r.problems, Skipped: func(at decode.Place, value *document.Node, reason string) {
		r.omit(at, value.String(), "%s", reason)
	}}
}

// file sorts the documents of a file by what they are.
func (r *reader) file(f File) {
	docs, err := document.Parse(f.Data)
	for _, broken := range document.Errors(err) {
		r.problems.Include(decode.Place{File: f.Name, Line: broken.Line}.String(), fmt.Errorf("%w: %w", flow.ErrSyntax, broken))
	}
	if len(docs) == 0 && err == nil {
		r.problems.Add(f.Name, problems.None, flow.ErrMissing, "there is nothing in the file")
	}
	for _, n := range docs {
		r.sort(doc{f.Name, n, ""})
	}
}

// sort puts a document to those of its kind.
func (r *reader) sort(d doc) {
	switch {
	case d.node.Kind == document.List:
		if len(d.node.Items) == 0 {
			r.bad(d, flow.ErrMissing, "an empty list does not tell what it is of")
		}
		for i, item := range d.node.Items {
			r.azure(doc{d.file, item, problems.Index(d.path, i)})
		}
	case d.node.Kind != document.Map:
		r.bad(d, flow.ErrSyntax, "must be a map or a list")
	case d.node.Field("apiVersion") == nil && d.node.Field("kind") == nil:
		r.azure(d)
	case strings.HasPrefix(d.node.TextOf("apiVersion"), "natplane/"):
		r.described = append(r.described, d)
	default:
		r.kubernetes(d)
	}
}

// describe makes the configuration out of what az and cluster files say. The latter have the last word.
func (r *reader) describe() {
	if d := slices.Concat(r.described, r.managed); len(d) > 0 {
		r.whole = decode.Place{File: d[0].file, Line: d[0].node.Line}
	}
	for i, d := range r.described {
		if i > 0 {
			r.bad(d, flow.ErrDuplicateName, "there is a cluster file in %s:%d already", r.described[0].file, r.described[0].node.Line)
		}
	}
	r.readAddresses()
	r.fromAzure()
	if len(r.described) > 0 {
		r.fromClusterFile(r.described[0])
	}
	r.judge()
	r.network()
	c := r.cluster
	if len(c.Config.NodePools) == 0 {
		c.Config.NodePools = []overlay.NodePool{{Name: "nodepool1", Count: 3}}
	}
	r.pair()
}

// finish does what needs all objects.
func (r *reader) finish() {
	r.dropOwned()
	r.nameWorkloads()
	for i := range r.cluster.Services {
		r.attend(&r.cluster.Services[i])
		r.resolve(&r.cluster.Services[i])
	}
	r.unattended()
	r.namePublicIPs()
	r.checkStaticGateways()
}

// keepOrder puts omissions into the order of lines within their files, and says how many more there are.
func (r *reader) keepOrder() {
	order := make(map[string]int)
	for _, f := range r.files {
		if _, ok := order[f]; !ok {
			order[f] = len(order)
		}
	}
	slices.SortStableFunc(r.cluster.NotModelled, func(a, b Omission) int {
		if a.File != b.File {
			return order[a.File] - order[b.File]
		}
		return a.Line - b.Line
	})
	if r.omitted > 0 {
		r.cluster.NotModelled = append(r.cluster.NotModelled, Omission{Reason: fmt.Sprintf("and %d more", r.omitted)})
	}
}

// parseAddress reads an address, or the only address of a prefix.
func parseAddress(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a, true
	}
	p, err := netip.ParsePrefix(text)
	return p.Addr(), err == nil && p.IsSingleIP()
}
