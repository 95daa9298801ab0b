package stockade_test

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// foreignPlaces match what stands for a place outside the repository: a path on
// somebody's machine, a folder beside a checkout, a mirror of modules. They are
// put together here so that this file does not hold them. Each has a piece of
// text without which it can't match, because looking for that is much faster.
var foreignPlaces = []struct {
	piece string
	match *regexp.Regexp
}{
	{"/shared", regexp.MustCompile(`\.\./` + `shared\b`)},
	{"/wo" + "rk/", regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/` + `work/`)},
	{"/ro" + "ot/", regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/` + `root/`)},
	{"/ho" + "me/", regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/` + `home/[a-z]+/`)},
	{"/Us" + "ers/", regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/` + `Users/[A-Za-z]+/`)},
	{".lib" + "rary", regexp.MustCompile(`(^|[^A-Za-z0-9_])\.` + `library\b`)},
	{".golang" + ".org", regexp.MustCompile(`\b(proxy|sum)\.` + `golang\.org\b`)},
}

// checkPlaces finds references to such places: the repository stands on its own.
func checkPlaces(f textFile) []string {
	var findings []string
	for _, place := range foreignPlaces {
		if !bytes.Contains(f.text, []byte(place.piece)) {
			continue
		}
		for number, line := range strings.Split(string(f.text), "\n") {
			if found := place.match.FindString(line); found != "" {
				findings = append(findings, fmt.Sprintf("%s:%d: %q is a place outside the repository", f.path, number+1, found))
			}
		}
	}
	return findings
}

// link matches the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// checkLinks finds links of Markdown files to files that exists does not know.
func checkLinks(f textFile, exists func(path string) bool) []string {
	if !strings.HasSuffix(f.path, ".md") {
		return nil
	}
	var findings []string
	for _, match := range link.FindAllStringSubmatch(string(f.text), -1) {
		target, _, _ := strings.Cut(match[1], "#")
		if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		if !exists(path.Join(path.Dir(f.path), target)) {
			findings = append(findings, fmt.Sprintf("%s: link to %s, which does not exist", f.path, match[1]))
		}
	}
	return findings
}
