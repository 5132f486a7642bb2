// The two captures of a run: inside.pcap is what the pods send and get,
// outside.pcap is what the Internet sees. They appear complete or not at all.

package story

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// captureEpoch is when virtual time 0 is in the written captures. It is fixed,
// so that equal runs give equal files.
var captureEpoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// output is the pair of captures. A nil output writes nothing.
type output struct {
	dir             string
	made            []string // directories that did not exist before, innermost first
	inside, outside *capture.File
	cut             int // bytes at the end of what is written that are not to be kept
}

// createOutput makes dir if need be and begins both captures under temporary
// names. After it, call either commit or discard.
func createOutput(ctx context.Context, dir string) (*output, error) {
	o := &output{dir: dir}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		o.made = append(o.made, d)
	}
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		o.inside, err = capture.Create(ctx, filepath.Join(dir, "inside.pcap"))
	}
	if err == nil {
		o.outside, err = capture.Create(ctx, filepath.Join(dir, "outside.pcap"))
	}
	if err != nil {
		o.discard()
		return nil, command.Failed(ctx, o.failure(err))
	}
	return o, nil
}

// failure says which flag err is about; nil stays nil.
func (o *output) failure(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("-out %s: %w", o.dir, err)
}

// commit completes both captures and gives them their names. On an error
// nothing is left behind.
func (o *output) commit() error {
	if o == nil {
		return nil
	}
	err := cmp.Or(o.inside.Finish(), o.outside.Finish())
	if err == nil {
		err = o.inside.Rename()
	}
	if err == nil {
		if err = o.outside.Rename(); err != nil {
			err = errors.Join(err, o.inside.Withdraw())
		}
	}
	if err != nil {
		o.discard()
	}
	return o.failure(err)
}

// discard removes whatever createOutput made.
func (o *output) discard() {
	if o == nil {
		return
	}
	o.inside.Remove()
	o.outside.Remove()
	for _, d := range o.made {
		_ = os.Remove(d) // fails if somebody else put something there: let it be
	}
}

// err returns the first error of a write so far.
func (o *output) err() error {
	if o == nil {
		return nil
	}
	return o.failure(cmp.Or(o.inside.Err(), o.outside.Err()))
}

// write adds a packet to the capture of one side.
func (o *output) write(side flow.Side, now flow.Time, packet []byte) {
	if o == nil {
		return
	}
	file := o.outside
	if side == flow.Inside {
		file = o.inside
	}
	_ = file.WriteCut(captureEpoch.Add(now.Duration()), packet, o.cut) // sticks: see err
}

// cutting lets the packets that follow be written without so many bytes at their end,
// as the capture had them.
func (o *output) cutting(bytes int) {
	if o != nil {
		o.cut = bytes
	}
}
