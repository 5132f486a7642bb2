package labs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pace is how long those that make the load rest between two questions.
const pace = 100 * time.Millisecond

// site is the web of a family, as its clients know it.
func site(f Family) netip.AddrPort { return netip.AddrPortFrom(f.Frontend, portWeb) }

// A talk is a conversation over one socket of a client, which goes on until the test or the
// machine at the other end stops it.
type talk struct {
	what    string // for messages
	machine string // who answers a connection; of UDP, who answered first
	conn    net.Conn
	answers atomic.Int64
	last    atomic.Pointer[string] // who answered last
	ended   chan struct{}
	err     error // after ended
}

// load is what clients do all the time.
type load struct {
	p       *pool
	ctx     context.Context
	cancel  context.CancelFunc
	working sync.WaitGroup

	// serving are the machines that may get new connections; nil while that is not sure.
	serving atomic.Pointer[[]string]
	served  atomic.Int64 // new connections while it was
}

// newLoad begins what needs no particular machine: clients with short connections, and the
// machines' own business with the Internet. The test must end it itself: a program that it
// has launched since is killed by the cleanup before anything that newLoad could register,
// and connections to it would be reset.
func newLoad(t *testing.T, p *pool) *load {
	l := &load{p: p}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for _, f := range Families {
		for range 2 {
			l.working.Go(func() { l.visit(t, f) })
		}
		for _, m := range p.machines {
			l.working.Go(func() { l.goOut(t, f, m) })
		}
	}
	return l
}

// end ends the load, and returns when nobody is working any more.
func (l *load) end() {
	l.cancel()
	l.working.Wait()
}

// goOn reports whether the load goes on, after a rest.
func (l *load) goOn() bool {
	time.Sleep(pace)
	return l.ctx.Err() == nil
}

// visit makes one connection after the other.
func (l *load) visit(t *testing.T, f Family) {
	c := l.p.Visitor(false)
	for l.goOn() {
		before := l.serving.Load()
		by, err := f.Visit(l.ctx, c, site(f), 3000)
		if before == nil || before != l.serving.Load() || l.ctx.Err() != nil {
			continue
		}
		l.served.Add(1)
		if err != nil || !slices.Contains(*before, by) {
			t.Errorf("%s: a new connection is served by %q, want one of %v; error %v", f.Name, by, *before, err)
		}
	}
}

// goOut makes connections from a machine to the Internet, which sees the frontend.
func (l *load) goOut(t *testing.T, f Family, m *machine) {
	c := &http.Client{Transport: &http.Transport{DialContext: m.DialContext, DisableKeepAlives: true}, Timeout: labTimeout}
	for l.goOn() {
		if err := f.Download(l.ctx, c, 3000); err != nil && l.ctx.Err() == nil {
			t.Errorf("%s: %s calls the Internet: %v", f.Name, m.Name(), err)
		}
	}
}

// expect says which machines may get new connections from now on; without any it is not sure.
func (l *load) expect(machines ...*machine) {
	var names []string
	for _, m := range machines {
		names = append(names, m.Name())
	}
	if names == nil {
		l.serving.Store(nil)
	} else {
		l.serving.Store(&names)
	}
}

// connect begins a talk over a connection to the web, which stays on its machine.
func (l *load) connect(t *testing.T, f Family) *talk {
	t.Helper()
	tk := l.dial(t, "tcp", site(f))
	answers := bufio.NewReader(tk.conn)
	l.hold(t, tk, func() (string, error) { return download(tk.conn, answers, f, 3000) })
	return tk
}

// download asks over a connection for bytes, and returns who has sent them.
func download(c net.Conn, answers *bufio.Reader, f Family, n int64) (string, error) {
	if _, err := fmt.Fprintf(c, "GET /bytes?n=%d HTTP/1.1\r\nHost: %s\r\n\r\n", n, f.Name); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	got, err := Sum(answer.Body)
	if seen := answer.Header.Get("Client-Address"); seen != c.LocalAddr().String() {
		err = errors.Join(err, fmt.Errorf("the machine saw %s, want %v", seen, c.LocalAddr()))
	}
	return answer.Header.Get("Backend"), errors.Join(err, sameSum(got, n))
}

// send begins a talk over UDP, which may move from machine to machine.
func (l *load) send(t *testing.T, f Family) *talk {
	t.Helper()
	tk := l.dial(t, "udp", netip.AddrPortFrom(f.Frontend, portUDP))
	question := 0
	l.hold(t, tk, func() (string, error) {
		for l.ctx.Err() == nil {
			question++
			if _, err := fmt.Fprint(tk.conn, question); errors.Is(err, net.ErrClosed) {
				return "", err
			}
			tk.conn.SetReadDeadline(time.Now().Add(2 * pace))
			if by, err := answerTo(tk.conn, question); by != "" || err != nil {
				return by, err
			}
			time.Sleep(pace)
		}
		return "", l.ctx.Err()
	})
	return tk
}

// answerTo waits until the read deadline for the answer to a question over UDP, and returns
// who has sent it, "" if it is lost or nobody listens. Answers to earlier questions are late.
func answerTo(c net.Conn, question int) (string, error) {
	for buf := make([]byte, 1500); ; {
		n, err := c.Read(buf)
		if err != nil {
			return "", nil
		}
		words := strings.Fields(string(buf[:n]))
		if len(words) != 3 || words[1] != c.LocalAddr().String() {
			return "", fmt.Errorf("the answer is %q, the client %v", buf[:n], c.LocalAddr())
		}
		if words[2] == fmt.Sprint(question) {
			return words[0], nil
		}
	}
}

// dial makes the socket of a talk.
func (l *load) dial(t *testing.T, network string, to netip.AddrPort) *talk {
	t.Helper()
	ctx, cancel := context.WithTimeout(l.ctx, labTimeout)
	defer cancel()
	c, err := l.p.Server.DialContext(ctx, network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	tk := &talk{what: fmt.Sprintf("%s %v > %v", network, c.LocalAddr(), to), conn: c, ended: make(chan struct{})}
	context.AfterFunc(l.ctx, func() { c.Close() })
	return tk
}

// hold asks for the first time, and then goes on asking.
func (l *load) hold(t *testing.T, tk *talk, ask func() (string, error)) {
	t.Helper()
	by, err := ask()
	if err != nil {
		t.Fatalf("%s: %v", tk.what, err)
	}
	tk.machine = by
	tk.last.Store(&by)
	tk.answers.Add(1)
	_, mayMove := tk.conn.(*net.UDPConn)
	l.working.Go(func() {
		defer close(tk.ended)
		defer tk.conn.Close()
		for l.goOn() {
			by, err := ask()
			if err == nil && by != tk.machine && !mayMove {
				err = fmt.Errorf("%s has answered instead of %s", by, tk.machine)
			}
			if err != nil {
				tk.err = err
				return
			}
			tk.last.Store(&by)
			tk.answers.Add(1)
		}
	})
}

// each returns some talks with every machine.
func (l *load) each(t *testing.T, f Family, n int, begin func(*testing.T, Family) *talk) (all []*talk) {
	t.Helper()
	found := map[string]int{}
	for _, m := range l.p.machines {
		for tries := 0; found[m.Name()] < n; tries++ {
			if tries > 100 { // one in 2^100
				t.Fatalf("%s: %v talks after %d more tries", f.Name, found, tries)
			}
			tk := begin(t, f)
			if found[tk.machine]++; found[tk.machine] > n {
				tk.conn.Close()
				<-tk.ended
				continue
			}
			all = append(all, tk)
		}
	}
	return all
}

// with returns those of some talks that a machine answered first.
func with(m *machine, all []*talk) (some []*talk) {
	for _, tk := range all {
		if tk.machine == m.Name() {
			some = append(some, tk)
		}
	}
	return some
}

// alive demands that talks go on: that each is answered some more times, by one machine from
// now on if by is not nil.
func alive(t *testing.T, why string, all []*talk, by *machine) {
	t.Helper()
	if len(all) == 0 {
		t.Fatalf("%s: no talks", why)
	}
	from := make([]int64, len(all))
	check := func(what string, tk *talk, is func() bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s: %s with %s %s", why, tk.what, tk.machine, what), func() bool {
			select {
			case <-tk.ended:
				t.Fatalf("%s: %s with %s has ended: %v", why, tk.what, tk.machine, tk.err)
			default:
			}
			return is()
		})
	}
	for i, tk := range all {
		check("is answered by the right machine", tk, func() bool { return by == nil || *tk.last.Load() == by.Name() })
		from[i] = tk.answers.Load()
	}
	for i, tk := range all {
		check("goes on", tk, func() bool { return tk.answers.Load() >= from[i]+2 })
		if last := *tk.last.Load(); by != nil && last != by.Name() {
			t.Errorf("%s: %s is answered by %s, want %s", why, tk.what, last, by.Name())
		}
	}
}

// dead demands that connections end, as their machine's kernel has it.
func dead(t *testing.T, why string, all []*talk) {
	t.Helper()
	for _, tk := range all {
		select {
		case <-tk.ended:
			if e := tk.err; !errors.Is(e, io.EOF) && !errors.Is(e, io.ErrUnexpectedEOF) && !errors.Is(e, syscall.ECONNRESET) && !errors.Is(e, syscall.EPIPE) {
				t.Errorf("%s: %s with %s has ended with %v", why, tk.what, tk.machine, tk.err)
			}
		case <-time.After(labTimeout):
			t.Fatalf("%s: %s with %s goes on", why, tk.what, tk.machine)
		}
	}
}
