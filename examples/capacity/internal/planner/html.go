// The file of -html.

package planner

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
)

// writePage draws an answer into a file. The file is there as a whole or, after an error, as it was
// before.
func writePage(name string, a *answer.Answer, draw func(io.Reader, io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	json, to := io.Pipe()
	go func() { _ = to.CloseWithError(a.WriteJSON(to)) }() // the reader is told
	w := bufio.NewWriter(f)
	err = draw(json, w)
	_ = json.Close() // it only stops the writer
	if err = errors.Join(err, w.Flush(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
