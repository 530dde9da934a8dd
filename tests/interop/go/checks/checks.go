// Package checks prints one line per check in the form the driver counts:
// "CHECK PASS name", "CHECK FAIL name: reason" and, at the very end, "CHECK DONE".
package checks

import (
	"fmt"
	"os"
	"strings"
)

var failed bool

// Report prints one check's outcome and says whether it passed.
func Report(name string, err error) bool {
	if err != nil {
		failed = true
		fmt.Printf("CHECK FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return false
	}
	fmt.Printf("CHECK PASS %s\n", name)
	return true
}

// Need is Report for what the rest stands on: a failure ends the program.
func Need(name string, err error) {
	if !Report(name, err) {
		Done()
	}
}

// Done prints the last line and exits.
func Done() {
	fmt.Println("CHECK DONE")
	if failed {
		os.Exit(1)
	}
	os.Exit(0)
}

// Equal is nil when both are the same.
func Equal[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, want %v", what, got, want)
	}
	return nil
}
