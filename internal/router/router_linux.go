package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Config describes a router.
type Config struct {
	// Engine decides about every packet. The router advances it in real time.
	Engine flow.Translator

	// Inside and Outside are the devices: TUN devices without packet
	// information, or other files that keep the boundaries of packets. They must
	// be non-blocking and known to the runtime's poller, as those of
	// netlab.OpenTUN are. They stay the caller's to close.
	//
	// Inside is one device for all instances of the engine, or one for each: then
	// what the engine sends to the inside goes to the device of the instance that
	// it names, which is the first where it knows none.
	Inside  []*os.File
	Outside *os.File

	// Observe, if not nil, is called with every packet before it is written to
	// the device of a side. It must neither change nor keep the packet, and is
	// called by several goroutines at once.
	Observe func(to flow.Side, pkt []byte)
}

// Router is a live gateway; see New.
type Router struct {
	config  Config
	devices [2][]device // by side
	start   time.Time

	mu     sync.Mutex // held during every call of the engine that takes a time
	engine flow.Translator

	// Of the goroutine that expires: packets made by the engine, one after the
	// other, which are sent when the engine has been left.
	made      []byte
	emissions []emission
}

// emission is a packet of Router.made.
type emission struct {
	to       flow.Side
	instance uint32
	len      int
}

// maxLate bounds how late expiry is. A session's deadline may come closer
// without notice when its connection closes, so the engine is asked again at
// this interval.
const maxLate = 10 * time.Millisecond

// New returns a router; the engine's time begins now. Errors: a device that is
// nil, closed or not known to the poller. It starts nothing: see Run.
func New(c Config) (*Router, error) {
	if c.Engine == nil {
		return nil, errors.New("router: Engine: missing")
	}
	r := &Router{config: c, engine: c.Engine, start: time.Now()}
	var errs []error
	if len(c.Inside) == 0 {
		errs = append(errs, errors.New("router: inside device: missing"))
	}
	for side, files := range [2][]*os.File{flow.Inside: c.Inside, flow.Outside: {c.Outside}} {
		r.devices[side] = make([]device, len(files))
		for i, f := range files {
			err := r.devices[side][i].open(f)
			if err == nil {
				err = f.SetDeadline(time.Time{})
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("router: %v device: %w", flow.Side(side), err))
			}
		}
	}
	return r, errors.Join(errs...)
}

// Run moves packets until ctx ends, which is no error, or a device fails. It
// returns within milliseconds of either, and the devices can then only be
// closed. Call it once.
func (r *Router) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() {
		for _, devices := range r.devices {
			for i := range devices {
				_ = devices[i].file.SetDeadline(r.start) // wakes who waits; fails only if closed
			}
		}
	})
	work := []func() error{
		func() error { return r.expire(ctx) },
		func() error { return r.inbound(ctx, &r.devices[flow.Outside][0]) },
	}
	for i := range r.devices[flow.Inside] {
		work = append(work, func() error { return r.outbound(ctx, &r.devices[flow.Inside][i]) })
	}
	var wg sync.WaitGroup
	errs := make([]error, len(work))
	for i := range work {
		wg.Go(func() {
			defer cancel()
			errs[i] = work[i]()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// outbound forwards what comes from a device of the inside.
func (r *Router) outbound(ctx context.Context, d *device) error {
	return r.forward(ctx, d, flow.Inside, flow.Outside, r.engine.OutboundBatch)
}

// inbound forwards what comes from the outside.
func (r *Router) inbound(ctx context.Context, d *device) error {
	return r.forward(ctx, d, flow.Outside, flow.Inside, r.engine.InboundBatch)
}

// forward moves the packets of a device through a door of the engine.
func (r *Router) forward(ctx context.Context, d *device, from, across flow.Side, door func(flow.Time, [][]byte, []flow.Verdict)) error {
	var verdicts [batchSize]flow.Verdict
	for {
		pkts, err := d.read()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("router: %v device: %w", from, err)
		}
		r.mu.Lock()
		door(r.Now(), pkts, verdicts[:])
		r.mu.Unlock()
		for i, pkt := range pkts {
			switch v := &verdicts[i]; v.Action {
			case flow.Forward:
				r.send(v.To, v.Instance, pkt)
			case flow.Bypass:
				r.send(across, v.Instance, pkt)
			}
		}
	}
}

// expire ends what is due and sends what the engine makes.
func (r *Router) expire(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		r.made, r.emissions = r.made[:0], r.emissions[:0]
		r.mu.Lock()
		r.engine.Advance(r.Now(), r.keep)
		r.mu.Unlock()
		rest := r.made
		for _, e := range r.emissions {
			r.send(e.to, e.instance, rest[:e.len])
			rest = rest[e.len:]
		}
		wait := maxLate
		if at, ok := r.engine.NextDeadline(); ok {
			wait = min(wait, max(at.Sub(r.Now()), flow.Tick))
		}
		timer.Reset(wait)
	}
}

// keep is the engine's sink.
func (r *Router) keep(e flow.Emission) {
	r.made = append(r.made, e.Packet...)
	r.emissions = append(r.emissions, emission{e.To, e.Instance, len(e.Packet)})
}

// send writes one packet to a side, where it concerns an instance.
func (r *Router) send(to flow.Side, instance uint32, pkt []byte) {
	if r.config.Observe != nil {
		r.config.Observe(to, pkt)
	}
	devices := r.devices[to]
	if len(devices) == 1 {
		instance = 0
	}
	devices[instance].write(pkt)
}

// Now returns the engine's time: what has passed since New.
func (r *Router) Now() flow.Time { return flow.At(time.Since(r.start)) }

// DeviceStats counts the packets of the devices of one side since New.
type DeviceStats struct {
	Received uint64 // read from a device
	Batches  uint64 // reads that found them
	Sent     uint64 // written to a device, those made by the engine included
	Failed   uint64 // refused by a device when written
}

// Device returns the counts of a side's devices together. It may be called at any time.
func (r *Router) Device(side flow.Side) (s DeviceStats) {
	for i := range r.devices[side] {
		d := &r.devices[side][i]
		s.Received += d.received.Load()
		s.Batches += d.batches.Load()
		s.Sent += d.sent.Load()
		s.Failed += d.failed.Load()
	}
	return s
}
