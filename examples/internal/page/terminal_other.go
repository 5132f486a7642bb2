//go:build !unix

package page

import "os"

// terminalWidth knows no terminals here, so that pages are plain and 80 columns wide.
func terminalWidth(*os.File) (columns int, ok bool) { return 0, false }
