// Network namespaces as open files, and how a goroutine, a socket or a child
// process gets into one. See network_namespaces(7), setns(2) and unshare(2).

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	runTimeout = 2 * time.Minute // longest command of Run
	pipeGrace  = 2 * time.Second // a killed command's children may hold its pipes no longer
)

// Namespace is one host of a lab.
type Namespace struct {
	name string
	tb   TB
	file *os.File
}

// errExited is what Do reports of a function that ended its goroutine.
var errExited = errors.New("netlab: the function ended its goroutine (FailNow belongs in the test's own)")

// onThread calls fn on an OS thread of its own, which dies when fn returns, so
// that nothing fn did to the thread reaches other goroutines.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errExited
		defer func() { done <- err }()
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err = fn()
	}()
	return <-done
}

// canUnshare reports why network namespaces cannot be made, nil if they can.
func canUnshare() error {
	f, err := newNetNS()
	if err != nil {
		return fmt.Errorf("network namespaces need root (CAP_SYS_ADMIN): %w", err)
	}
	return f.Close()
}

// newNetNS makes a network namespace that lives as long as the file is open.
func newNetNS() (f *os.File, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return f, err
}

// Name returns the name the namespace has in its lab.
func (n *Namespace) Name() string { return n.name }

// Path returns a path that names the namespace to other programs, such as
// nsenter --net=PATH or ip link set DEV netns PATH, while the lab exists.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Do calls fn inside the namespace and returns its error. Sockets and files that
// fn opens stay in the namespace; goroutines that it starts are outside. fn runs
// on a goroutine and thread of its own, so it must not call tb.FailNow, and a
// process that it starts with Pdeathsig set dies when fn returns.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netlab: entering namespace %q: %w", n.name, err)
		}
		return fn()
	})
}

// open is Do for a function with a result.
func open[T any](n *Namespace, fn func() (T, error)) (v T, err error) {
	err = n.Do(func() (err error) {
		v, err = fn()
		return err
	})
	return v, err
}

// Listen is net.Listen inside the namespace; the address must be numeric.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	return open(n, func() (net.Listener, error) { return net.Listen(network, address) })
}

// ListenPacket is net.ListenPacket inside the namespace; the address must be
// numeric.
func (n *Namespace) ListenPacket(network, address string) (net.PacketConn, error) {
	return open(n, func() (net.PacketConn, error) { return net.ListenPacket(network, address) })
}

// DialContext is net.Dialer.DialContext inside the namespace; the address must be
// numeric. It fits http.Transport.DialContext.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return open(n, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

// Command returns a command that will run inside the namespace, to be started by
// the caller. It is killed when ctx ends and when this process dies, and already
// when the thread that started it ends: to keep a command for long, start it from
// a goroutine that is locked to its thread.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = pipeGrace
	return cmd
}

// Run runs a command inside the namespace and returns what it prints on both
// outputs. The line is cut at white space; there is no quoting. A command that
// fails, or runs for more than 2 min, ends the test.
func (n *Namespace) Run(line string) string {
	n.tb.Helper()
	out, err := n.Try(line)
	if err != nil {
		n.tb.Fatalf("netlab: %s: %s: %v\n%s", n.name, line, err, out)
	}
	return out
}

// Try is Run for a command that may fail: it returns the error.
func (n *Namespace) Try(line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	runtime.LockOSThread() // the command dies with its thread, which onThread would else use and end
	defer runtime.UnlockOSThread()
	words := strings.Fields(line)
	out, err := n.Command(ctx, words[0], words[1:]...).CombinedOutput()
	return string(out), errors.Join(err, ctx.Err())
}

// Sysctl sets a kernel parameter of the namespace; name has the dotted form, as
// in "net.ipv4.ip_forward". A parameter that cannot be set ends the test.
func (n *Namespace) Sysctl(name, value string) {
	n.tb.Helper()
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	if err := n.Do(func() error { return os.WriteFile(path, []byte(value), 0) }); err != nil {
		n.tb.Fatalf("netlab: %s: sysctl %s=%s: %v", n.name, name, value, err)
	}
}
