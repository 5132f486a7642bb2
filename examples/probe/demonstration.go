package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// demonstrate probes a web server of its own, fifty times as fast as Azure would: of
// twelve requests the fifth to the eighth are answered with 503.
func demonstrate(ctx context.Context, o options, stdout io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var requests atomic.Int32
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := requests.Add(1); 5 <= n && n <= 8 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go server.Serve(listener) // returns when the server is closed
	defer server.Close()
	o.target = listener.Addr().String()
	o.host, o.probe.Port = "127.0.0.1", listener.Addr().(*net.TCPAddr).AddrPort().Port()
	o.probe.Protocol, o.probe.RequestPath = probe.HTTP, "/healthz"
	o.count, o.speed = 12, 50
	fmt.Fprintln(stdout, "a server of this program, whose requests 5 to 8 get the status 503; -target asks another one")
	return watch(ctx, o, stdout)
}
