// Workload files: what the pods of a cluster send, for package whatif.

package manifest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// workloadKind is what a workload file says it is; its version is that of cluster files.
const workloadKind = "Workload"

// workloadFile is a workload file.
type workloadFile struct {
	APIVersion string
	Kind       string
	Seed       uint64
	Traffic    []whatif.Traffic
}

// ReadWorkload reads a workload file, one document of YAML or JSON. Its fields are those of
// [whatif.Workload] but for Trace, and written as those of cluster files are; those of
// [whatif.Class] stand beside name, from, to and rate:
//
//	apiVersion: natplane/v1
//	kind: Workload
//	traffic:
//	- name: orders
//	  from: {pods: shop/orders}
//	  to: [{addr: '203.0.113.9:443', weight: 3}, {addr: '[2001:db8::9]:443'}]
//	  rate: {perHost: 2, bursts: [{at: 10m, length: 1m, every: 1h, factor: 20}]}
//	  kind: Pool
//	  keepAlive: 3m
//
// The error joins every problem, each with file, line, field, value and rule, as that of [Read];
// there is no workload then. ReadWorkload is a pure function.
func ReadWorkload(f File) (whatif.Workload, error) {
	w, err := ReadWorkloadFile(f)
	if err != nil {
		return whatif.Workload{}, err
	}
	return w.Workload, nil
}

// ReadWorkloadFile reads as [ReadWorkload] does, and keeps where the fields stand.
func ReadWorkloadFile(f File) (*WorkloadFile, error) {
	var l problems.List
	w, s := readWorkload(&l, f)
	if err := l.Err(); err != nil {
		return nil, err
	}
	return &WorkloadFile{w, s}, nil
}

// WorkloadFile is a workload with the places of its fields. Its methods may be called by many goroutines
// at once.
type WorkloadFile struct {
	Workload whatif.Workload // what the file says
	sources  sources
}

// Locate tells the problems that [whatif.New] has with the workload in a cluster, such as pods that there are
// not, by file, line and field as those of [ReadWorkload] are, and leaves all others as they are. It returns
// nil for nil.
func (w *WorkloadFile) Locate(err error) error {
	var l problems.List
	const prefix = "Workload."
	var joined interface{ Unwrap() []error }
	all := []error{err}
	if errors.As(err, &joined) {
		all = joined.Unwrap()
	}
	for _, e := range all {
		if e == nil {
			continue
		}
		if !strings.HasPrefix(e.Error(), prefix) {
			l.Include("", e)
			continue
		}
		relocate(findings{List: &l}, e, func(golang, value string) decode.Place {
			return w.sources.at(strings.TrimPrefix(golang, prefix), value)
		})
	}
	return l.Err()
}

func readWorkload(l *problems.List, f File) (w whatif.Workload, s sources) {
	docs, err := document.Parse(f.Data)
	for _, broken := range document.Errors(err) {
		l.Include(decode.Place{File: f.Name, Line: broken.Line}.String(), fmt.Errorf("%w: %w", flow.ErrSyntax, broken))
	}
	if err != nil {
		return w, s
	}
	if len(docs) != 1 {
		l.Add(f.Name, problems.Rawf("%d documents", len(docs)), flow.ErrSyntax, "must be one workload")
		return w, s
	}
	n := docs[0]
	s = sources{places: make(map[string]decode.Place), whole: decode.Place{File: f.Name, Line: docs[0].Line}}
	var file workloadFile
	x := decode.Reader{Style: decode.GoNames, File: f.Name, Problems: l, Places: s.places}
	x.Value(n, &file, "")
	for _, says := range []struct{ field, got, want string }{{"apiVersion", file.APIVersion, clusterVersion}, {"kind", file.Kind, workloadKind}} {
		if at := n.Field(says.field); says.got != says.want && at != nil {
			l.Add(decode.Place{File: f.Name, Line: at.Line, Field: says.field}.String(), problems.Raw(at.String()), flow.ErrOutOfRange, "must be %s", says.want)
		} else if at == nil {
			l.Add(s.whole.String(), problems.None, flow.ErrMissing, "%s must be %s", says.field, says.want)
		}
	}
	w = whatif.Workload{Seed: file.Seed, Traffic: file.Traffic}
	relocate(findings{List: l, certain: l.Len() > 0}, w.Validate(), s.at)
	return w, s
}

// Hosts returns the pods that run, for package whatif: their group is the workload that they are
// of, such as "shop/orders". Those with the address of their node are left out.
func (r *Running) Hosts() (hosts []whatif.Host) {
	for _, p := range r.Pods {
		if on, ok := r.Pod(p.Name); ok {
			hosts = append(hosts, whatif.Host{Name: p.Name, Group: p.workload.Namespace + "/" + p.workload.Name, Addrs: on.Addrs})
		}
	}
	return hosts
}
