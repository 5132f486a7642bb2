package hostports

import (
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

const (
	maxName = 1 << 12
	maxPods = 1 << 24
)

// Archive writes v; or, if a is read, it gives v, which has none, the bindings that were written. nodeOf says
// which node a pod is on, "" if there is no such pod.
func (v *Inventory) Archive(a *snapshot.Archive, nodeOf func(pod string) string) {
	a.Section("host ports")
	snapshot.Num(a, &v.next)
	a.Check(v.next >= 0 && v.next < count, "the next port is %d of %d", v.next, count)
	pods := slices.Sorted(maps.Keys(v.byPod))
	snapshot.Slice(a, &pods, maxPods, func(pod *string) {
		a.Text(pod, maxName)
		all := v.byPod[*pod].all
		node := nodeOf(*pod)
		a.Check(node != "" && (a.Writing() || len(all) == 0), "pod %q has host ports twice, or is not there", *pod)
		snapshot.Slice(a, &all, 1<<17, func(b *Binding) {
			snapshot.Nums(a, &b.Host.Number, &b.Container.Number)
			snapshot.Num(a, &b.Host.Protocol)
			a.Bool(&b.Automatic)
			if b.Container.Protocol = b.Host.Protocol; !a.Writing() && a.Check(b.Host.Valid() && b.Container.Valid(), "host port %v of pod %q", b.Host, *pod) {
				_, taken := v.byNode[at{node, b.Host}]
				a.Check(!taken, "host port %v is there twice on a node", b.Host)
				v.put(node, *pod, *b)
			}
		})
	})
}
