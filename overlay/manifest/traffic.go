// Workload files: what the pods of a cluster send, for package whatif.

package manifest

import (
	"fmt"

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
	var l problems.List
	w := readWorkload(&l, f)
	if err := l.Err(); err != nil {
		return whatif.Workload{}, err
	}
	return w, nil
}

func readWorkload(l *problems.List, f File) (w whatif.Workload) {
	docs, err := document.Parse(f.Data)
	for _, broken := range document.Errors(err) {
		l.Include(decode.Place{File: f.Name, Line: broken.Line}.String(), fmt.Errorf("%w: %w", flow.ErrSyntax, broken))
	}
	if err != nil {
		return w
	}
	if len(docs) != 1 {
		l.Add(f.Name, problems.Rawf("%d documents", len(docs)), flow.ErrSyntax, "must be one workload")
		return w
	}
	n, s := docs[0], sources{places: make(map[string]decode.Place), whole: decode.Place{File: f.Name, Line: docs[0].Line}}
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
	return w
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
