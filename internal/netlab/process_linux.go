// Programs that run in a namespace for as long as a test wants them.

package netlab

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Process is a program that runs in a namespace.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Launch starts a program inside the namespace and returns when a line of what it
// prints, on either output, contains ready. It is killed when the lab ends, if it is
// not stopped before. A program that cannot be started, or ends before it is ready,
// ends the test.
func (n *Namespace) Launch(ready, name string, args ...string) *Process {
	n.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{cmd: n.Command(ctx, name, args...), ended: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		n.tb.Fatalf("netlab: %s: %s: %v", n.name, name, err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread() // the program dies with the thread that started it
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // it was told to end, or has done its work
		}
	}()
	n.tb.Cleanup(func() { cancel(); <-p.ended })
	if err := <-started; err != nil {
		n.tb.Fatalf("netlab: %s: %s: %v", n.name, name, err)
	}
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			n.tb.Fatalf("netlab: %s: %s ended before it said %q", n.name, name, ready)
		}
		if strings.Contains(lines.Text(), ready) {
			go io.Copy(io.Discard, out)
			return p
		}
	}
}

// Signal sends a signal to the program, unless it has ended.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop sends a signal that ends the program, and returns when it has.
func (p *Process) Stop(s syscall.Signal) {
	p.Signal(s)
	<-p.ended
}
