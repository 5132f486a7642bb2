package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

// play runs the command, and returns its status and what it printed, addresses and times
// left out.
func play(t *testing.T, args ...string) (status int, lines []string, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	status = run(context.Background(), args, &out, &complaints)
	text := regexp.MustCompile(`\S*127\.0\.0\.1:\d+`).ReplaceAllString(out.String(), "TARGET")
	text = regexp.MustCompile(`(?m)^[0-9ms.]+ TARGET`).ReplaceAllString(text, "TARGET")
	return status, strings.Split(strings.TrimSpace(text), "\n"), complaints.String()
}

func TestDemonstration(t *testing.T) {
	status, lines, stderr := play(t)
	assert.Equal(t, command.Success, status)
	assert.Empty(t, stderr)
	assert.Equal(t, []string{
		"a server of this program, whose requests 5 to 8 get the status 503; -target asks another one",
		"Http to TARGET every 5s, states change with 2 results in a row",
		"TARGET is healthy", "TARGET is unhealthy", "TARGET is healthy",
		"TARGET: 12 attempts, 8 successes, healthy",
	}, lines)
}

// A redirection, even to what is well, is no 200; TLS works without a name.
func TestTargets(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed.Close()
	at := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, tt := range []struct{ name, target, protocol, path, end string }{
		{"handshake", at(plain), "tcp", "", "3 successes, healthy"},
		{"nobody listens", closed.Addr().String(), "tcp", "", "0 successes, unhealthy"},
		{"nobody listens to HTTP", closed.Addr().String(), "http", "", "0 successes, unhealthy"},
		{"web", at(plain), "http", "", "3 successes, healthy"},
		{"redirection", at(plain), "http", "away", "0 successes, unhealthy"},
		{"TLS", at(secure), "https", "/", "3 successes, healthy"},
		{"TLS where there is none", at(plain), "https", "/", "0 successes, unhealthy"},
	} {
		args := []string{"-target", tt.target, "-protocol", tt.protocol, "-count", "3", "-speed", "200"}
		if tt.path != "" {
			args = append(args, "-path", tt.path)
		}
		status, lines, stderr := play(t, args...)
		assert.Equal(t, command.Success, status, tt.name)
		assert.Empty(t, stderr, tt.name)
		assert.Equal(t, "TARGET: 3 attempts, "+tt.end, lines[len(lines)-1], tt.name)
	}
}

// A service that resets connections is ill at once.
func TestReset(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.(*net.TCPConn).SetLinger(0) // closes with a RST
				conn.Close()
			}
		}
	}))
	defer server.Close()
	_, lines, _ := play(t, "-target", server.Listener.Addr().String(), "-protocol", "http", "-count", "2", "-threshold", "9", "-speed", "200")
	assert.Equal(t, []string{"TARGET is healthy", "TARGET is unhealthy", "TARGET: 2 attempts, 1 successes, unhealthy"}, lines[1:])
}

func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var out, complaints bytes.Buffer
	assert.Equal(t, command.Success, run(ctx, []string{"-target", "127.0.0.1:1"}, &out, &complaints), complaints.String())
}

func TestMisuse(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-target 127.0.0.1", `-target "127.0.0.1": not HOST:PORT`},
		{"-target a:x -speed 0", "-speed 0: above 0, at most 1000\nprobe: -target \"a:x\": \"x\" is no port number"},
		{"-target a:1 -protocol udp -count -1", "-protocol \"udp\": tcp, http or https\nprobe: -count -1: 0 or more"},
		{"-target a:25 -protocol http -interval 1s", "Interval 1s: out of range: 5s..24h0m0s\nprobe: Port 25: port is not allowed for HTTP probes"},
		{"-count 3", "-target is missing; the demonstration takes no flags"},
	} {
		status, _, stderr := play(t, strings.Fields(tt.args)...)
		assert.Equal(t, command.Misuse, status, tt.args)
		assert.Equal(t, "probe: "+tt.want+"\n", stderr, tt.args)
	}
	status, lines, _ := play(t, "-h")
	assert.Equal(t, command.Success, status)
	assert.Equal(t, "Usage: probe -target HOST:PORT [flags]", lines[0])
}

// HTTP gives a service 30 seconds, as Azure does, and TCP the interval.
func TestPatience(t *testing.T) {
	o := options{speed: 2}
	o.probe.Interval = 10 * time.Second
	p := newProber(context.Background(), o)
	assert.Equal(t, 30*time.Second, p.client.Timeout)
	assert.Equal(t, 5*time.Second, p.patient)
}
