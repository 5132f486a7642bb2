// Command page draws what the command capacity has found (go doc ./examples/capacity): it reads the
// object that -json prints and writes one page of HTML, which needs nothing else and asks nobody. It is
// a module of its own because it draws with gonum.org/v1/plot; capacity builds and runs it for
// -html.
//
//	go run ./examples/capacity -html report.html
//	go run ./examples/capacity -json | (cd examples/capacity/page && go run .) > report.html
//
// What a reader sees first is what to change and why, with the numbers before and after; then come the
// plots that show it, each above a table of its numbers. The page knows nothing that is not in the
// object.
//
//	main.go       this, and the page as a whole
//	page.html     its text and style, a template
//	sections.go   what the template shows, of the object
//	plots.go      lines and areas over time, as SVG in the colours of the page
//	heat.go       settings by two of their axes
package main

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
)

//go:embed page.html
var source string

var pageTemplate = template.Must(template.New("page").Parse(source))

func main() {
	w := bufio.NewWriter(os.Stdout)
	if err := errors.Join(render(os.Stdin, w), w.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// render reads an answer and writes the page about it.
func render(r io.Reader, w io.Writer) error {
	a, err := answer.ReadJSON(r)
	if err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	v, err := viewOf(a)
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, v)
}
