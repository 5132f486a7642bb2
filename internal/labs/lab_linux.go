// The network of a lab: two hosts and a router.

package labs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/internal/router"
)

// Lab is two hosts with a running router between them.
type Lab struct {
	Client, Server *netlab.Namespace // the hosts
	Net            *netlab.Lab       // to extend it by more hosts
	Router         *router.Router    // between them
	Audit          *Audit            // of every packet that the router writes

	stop context.CancelFunc
	done chan error
	err  error // what Run returned
}

// stopTimeout bounds the end of a lab's router.
const stopTimeout = time.Minute

// New makes a lab around an engine, whose time begins now, and ends it with the
// test. It ends the test where labs are not to be had: see netlab.Require.
func New(tb netlab.TB, engine flow.Translator) *Lab {
	tb.Helper()
	net := netlab.New(tb)
	l := &Lab{
		Net: net, Client: net.Namespace("client"), Server: net.Namespace("server"),
		Audit: &Audit{Inside: Inside, Frontends: Frontends, Strangers: []netip.Addr{IPv4.Stranger, IPv6.Stranger}},
	}
	inside := l.Client.TUN("tun0", IPv4.Client.String()+"/16", IPv6.Client.String()+"/64")
	l.Client.Sysctl("net.ipv4.tcp_tw_reuse", "1") // where ports are few: after a second instead of a minute
	defaultRoutes(l.Client, "tun0")
	l.route(tb, engine, inside)
	return l
}

// defaultRoutes lets a host send everything to a device.
func defaultRoutes(host *netlab.Namespace, dev string) {
	host.Run("ip route add default dev " + dev)
	host.Run("ip -6 route add default dev " + dev)
}

// route connects the server, and runs a router between it and the devices inside until
// the test ends.
func (l *Lab) route(tb netlab.TB, engine flow.Translator, inside ...*os.File) {
	tb.Helper()
	outside := l.Server.TUN("tun1", IPv4.Server.String()+"/32", IPv6.Server.String()+"/128")
	defaultRoutes(l.Server, "tun1")
	var err error
	if l.Router, err = router.New(router.Config{Engine: engine, Inside: inside, Outside: outside, Observe: l.Audit.Observe}); err != nil {
		tb.Fatalf("labs: %v", err)
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.done = make(chan error, 1)
	go func() { l.done <- l.Router.Run(ctx) }()
	tb.Cleanup(func() { _ = l.Stop() })
}

// Stop ends the router, within milliseconds, and reports everything that was
// wrong with it or with a packet it sent. The hosts stay. Later calls only repeat
// the report.
func (l *Lab) Stop() error {
	l.stop()
	if l.done != nil {
		select {
		case l.err = <-l.done:
		case <-time.After(stopTimeout):
			l.err = fmt.Errorf("labs: the router has not stopped within %v", stopTimeout)
		}
		l.done = nil
	}
	return errors.Join(l.err, l.Audit.Err())
}
