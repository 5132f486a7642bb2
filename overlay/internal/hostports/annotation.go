// The annotation that asks for host ports, and the name of the variable that tells them.

package hostports

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Annotation is the annotation of a pod whose value lists its container ports to assign.
const Annotation = "kubernetes.azure.com/assign-hostports-for-containerports"

// Port is a port and its protocol.
type Port struct {
	Number   uint16 // 1..65535
	Protocol uint8  // IP protocol, TCP or UDP
}

// names of protocols, as the annotation and variables have them.
var names = map[uint8]string{wire.ProtoTCP: "tcp", wire.ProtoUDP: "udp"}

// String returns "8080/tcp".
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, names[p.Protocol]) }

// Valid reports whether p is a port that can be bound.
func (p Port) Valid() bool { return p.Number != 0 && names[p.Protocol] != "" }

// Variable returns the name of the environment variable by which the pods of a deployment
// learn the host port of a container port, such as "web_PORT_8080_TCP_HOSTPORT". Dashes of
// the deployment's name stay.
func Variable(deployment string, p Port) string {
	return fmt.Sprintf("%s_PORT_%d_%s_HOSTPORT", deployment, p.Number, strings.ToUpper(names[p.Protocol]))
}

// Parse reads the value of the annotation, such as "8080/tcp,8443/tcp", of a pod whose
// specification has the container ports spec. Spaces and case do not matter, which is our
// choice. The error joins all problems, by the index of the entry: they wrap
// [flow.ErrSyntax], [flow.ErrUnknownName] for a port that is not in the specification, or
// [flow.ErrDuplicateName].
func Parse(value string, spec []Port) ([]Port, error) {
	var (
		all []Port
		l   problems.List
	)
	for i, entry := range strings.Split(value, ",") {
		path := problems.Index(Annotation, i)
		p, ok := parsePort(entry)
		switch {
		case !ok:
			l.Add(path, entry, flow.ErrSyntax, "want PORT/PROTOCOL, a single port 1..65535, protocol tcp or udp")
		case !slices.Contains(spec, p):
			l.Add(path, entry, flow.ErrUnknownName, "the pod has no such container port")
		case slices.Contains(all, p):
			l.Add(path, entry, flow.ErrDuplicateName, "a container port has one host port")
		default:
			all = append(all, p)
		}
		if l.Full() {
			break
		}
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

func parsePort(entry string) (Port, bool) {
	number, protocol, _ := strings.Cut(strings.TrimSpace(entry), "/")
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 16)
	if err != nil || n == 0 {
		return Port{}, false
	}
	for ip, name := range names {
		if strings.EqualFold(strings.TrimSpace(protocol), name) {
			return Port{uint16(n), ip}, true
		}
	}
	return Port{}, false
}

// Named is a container port of a specification, which may name its host port.
type Named struct {
	Container Port
	Host      uint16 // 0 is none
}

// Check reports what is wrong with the ports of a specification, and returns those that the annotation
// asks for; "" asks for none.
func Check(ports []Named, annotation string) (automatic []Port, err error) {
	var (
		l    problems.List
		spec []Port
		host = make(map[Port]bool)
	)
	for i, p := range ports {
		path := problems.Index("Ports", i)
		if !p.Container.Valid() {
			l.Add(path, problems.Raw(p.Container.String()), flow.ErrOutOfRange, "want a port 1..65535 of TCP or UDP")
		}
		if named := (Port{p.Host, p.Container.Protocol}); p.Host != 0 {
			if host[named] {
				l.Add(path+".HostPort", p.Host, flow.ErrDuplicateName, "another port of the pod has it")
			}
			host[named] = true
		}
		spec = append(spec, p.Container)
	}
	if annotation != "" {
		automatic, err = Parse(annotation, spec)
		l.Include("", err)
	}
	return automatic, l.Err()
}
