package bench

import (
	"os"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where the driver ran.
type Machine struct {
	OS       string `json:"os"`
	Kernel   string `json:"kernel,omitempty"`
	CPU      string `json:"cpu,omitempty"`
	CPUs     int    `json:"cpus"`
	MemoryMB int64  `json:"memory_mb,omitempty"`
	Go       string `json:"go"`
	Driver   string `json:"driver"` // the version of the program that made the load
}

// Cluster is what was under load.
type Cluster struct {
	ID      string `json:"id"`
	Nodes   int    `json:"nodes"`
	Shards  int    `json:"shards"`
	Version string `json:"version"`
}

var cpuModel = regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`)

// thisMachine describes the machine, as far as it says what it is.
func thisMachine(version string) Machine {
	m := Machine{OS: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version(), Driver: version}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := cpuModel.FindSubmatch(info); model != nil {
			m.CPU = strings.TrimSpace(string(model[1]))
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var mem unix.Sysinfo_t
	if unix.Sysinfo(&mem) == nil {
		m.MemoryMB = int64(mem.Totalram) * int64(mem.Unit) >> 20
	}
	return m
}

// cpuSeconds is how long this process has used processors, in seconds.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
