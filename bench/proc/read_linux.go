package proc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is the folder in which the kernel describes processes.
const proc = "/proc"

// errGone is returned for a process that has ended.
var errGone = errors.New("the process has ended")

// gone reports whether err is one of the errors with which /proc answers for a process
// that has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) ||
		errors.Is(err, errGone)
}

// of returns the path of a file of process pid.
func of(pid int, name string) string { return filepath.Join(proc, strconv.Itoa(pid), name) }

// ticks returns the clock ticks that the kernel counts a second, from the auxiliary
// vector that it passes to each process.
func ticks() float64 {
	const clockTicks, word = 17, 8 // AT_CLKTCK
	b, err := os.ReadFile(proc + "/self/auxv")
	if err == nil && strconv.IntSize == 64 {
		for ; len(b) >= 2*word; b = b[2*word:] {
			if binary.NativeEndian.Uint64(b) == clockTicks {
				return float64(binary.NativeEndian.Uint64(b[word:]))
			}
		}
	}
	return 100 // value on each architecture that Go supports
}

// uptime returns how long the machine has run, in the ticks of stat.start.
func uptime(hertz float64) uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return uint64(time.Duration(t.Nano()).Seconds() * hertz)
}

// stat holds the fields of /proc/PID/stat that are used.
type stat struct {
	comm  string // name of the command, cut to 15 bytes
	ticks int64  // processor time in user and kernel mode, of all threads, ended ones included
	// start time, in ticks since the machine started; with the pid it identifies the
	// process
	start uint64
}

// readStat reads the status of a process. It returns errGone for a process that has
// ended, also while its parent has not yet collected its exit status.
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(of(pid, "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

func parseStat(b []byte) (stat, error) {
	// The name stands in parentheses and may contain any character, parentheses and
	// blanks too. The last closing parenthesis ends it.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("unexpected process status %q", b)
	}
	f := strings.Fields(string(b[end+1:])) // field 3, the state, and those after it
	if len(f) < 20 {
		return stat{}, fmt.Errorf("unexpected process status %q", b)
	}
	if f[0] == "Z" || f[0] == "X" {
		return stat{}, errGone
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	start, err3 := strconv.ParseUint(f[19], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return stat{}, fmt.Errorf("unexpected process status %q: %w", b, err)
	}
	return stat{comm: string(b[open+1 : end]), ticks: user + system, start: start}, nil
}

// resident returns the memory that a process has in use, in bytes, from the kernel's
// counters. It is fast, and lags by up to some hundred kilobytes.
func resident(pid int) (int64, error) {
	b, err := os.ReadFile(of(pid, "statm"))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("unexpected memory status %q", b)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// exactResident returns the same counted page by page, where the kernel permits it. For a
// large process this takes milliseconds.
func exactResident(pid int) (int64, error) {
	if b, err := os.ReadFile(of(pid, "smaps_rollup")); err == nil {
		if n, ok := kilobytes(b, "Rss:"); ok {
			return n, nil
		}
	}
	return resident(pid)
}

// highWater returns the most memory that a process ever had in use, in bytes; 0 when it
// is unknown.
func highWater(pid int) int64 {
	b, err := os.ReadFile(of(pid, "status"))
	if err != nil {
		return 0
	}
	n, _ := kilobytes(b, "VmHWM:")
	return n
}

// kilobytes finds a line such as "VmHWM: 1234 kB" and returns its value in bytes.
func kilobytes(b []byte, key string) (int64, bool) {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// openFiles returns the number of open files of a process; 0 when it cannot be read.
func openFiles(pid int) int {
	// Since Linux 6.2 the size of the folder is the number of files. Counting the entries
	// works on older kernels too.
	if info, err := os.Stat(of(pid, "fd")); err == nil && info.Size() > 0 {
		return int(info.Size())
	}
	names, err := readNames(of(pid, "fd"))
	if err != nil {
		return 0
	}
	return len(names)
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// arguments returns the command line of a process.
func arguments(pid int) []string {
	b, err := os.ReadFile(of(pid, "cmdline"))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}

// machine holds counters of the whole machine.
type machine struct {
	busy  int64 // clock ticks, with the time that the hypervisor took
	taken int64 // the part of busy that the hypervisor took
	cores int
	used  int64 // bytes of memory
}

func readMachine() (machine, error) {
	b, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return machine{}, err
	}
	m, err := parseMachine(b)
	if err != nil {
		return m, err
	}
	if b, err := os.ReadFile(proc + "/meminfo"); err == nil {
		total, _ := kilobytes(b, "MemTotal:")
		free, _ := kilobytes(b, "MemAvailable:")
		m.used = total - free
	}
	return m, nil
}

func parseMachine(b []byte) (machine, error) {
	var m machine
	found := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			m.cores++
			continue
		}
		found = true
		// Fields: user nice system idle iowait irq softirq steal guest guest_nice. User
		// time includes guest time.
		for i, text := range f[1:min(len(f), 9)] {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return m, fmt.Errorf("unexpected %q in /proc/stat", line)
			}
			if i != 3 && i != 4 {
				m.busy += n
			}
			if i == 7 {
				m.taken = n
			}
		}
	}
	if !found || m.cores == 0 {
		return m, errors.New("no processors in /proc/stat")
	}
	return m, nil
}

// pids returns the ids of all processes, in increasing order.
func pids() ([]int, error) {
	names, err := readNames(proc)
	if err != nil {
		return nil, err
	}
	var list []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			list = append(list, pid)
		}
	}
	slices.Sort(list)
	return list, nil
}
