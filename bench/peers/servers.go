package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a set of servers.
type server uint8

const (
	postgres server = 1 << iota
	redisServer
	etcd
)

// Servers are the real servers that peers run on, on loopback, with their data in a
// folder of their own. Each syncs its log to the disk before it answers.
type Servers struct {
	dir       string
	processes []*process

	PostgresURL string
	RedisAddr   string
	EtcdURL     string
}

// process is one server.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan error
	log  string
}

const (
	startPatience = 30 * time.Second
	stopPatience  = 20 * time.Second
)

// StartServers starts servers and waits until they take connections. Close ends them.
func StartServers(ctx context.Context, dir string, which server) (*Servers, error) {
	s := &Servers{dir: dir}
	for _, start := range []struct {
		is server
		f  func(context.Context) error
	}{{postgres, s.startPostgres}, {redisServer, s.startRedis}, {etcd, s.startEtcd}} {
		if which&start.is == 0 {
			continue
		}
		if err := start.f(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close ends the servers.
func (s *Servers) Close() {
	for _, p := range slices.Backward(s.processes) {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // one that has ended needs none
		select {
		case <-p.done:
		case <-time.After(stopPatience):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}

// freePort finds a port that nobody uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// run starts a process and waits until its port takes connections.
func (s *Servers) run(ctx context.Context, name string, port int, cmd *exec.Cmd) error {
	p := &process{name: name, cmd: cmd, done: make(chan error, 1), log: filepath.Join(s.dir, name+".log")}
	file, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s (bench/peers/install.sh installs it): %w", name, err)
	}
	s.processes = append(s.processes, p)
	go func() { p.done <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		if c, err := d.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return c.Close()
		}
		select {
		case err := <-p.done:
			p.done <- err
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s ended: %w: %s", name, err, text)
		case <-ctx.Done():
			return fmt.Errorf("%s takes no connections: %w", name, ctx.Err())
		case <-tick.C:
		}
	}
}

// startRedis starts Redis, which syncs its file before each answer.
func (s *Servers) startRedis(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, "redis")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	s.RedisAddr = "127.0.0.1:" + strconv.Itoa(port)
	return s.run(ctx, "redis", port, exec.Command("redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"))
}

func (s *Servers) startEtcd(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	peer, err := freePort()
	if err != nil {
		return err
	}
	s.EtcdURL = "http://127.0.0.1:" + strconv.Itoa(port)
	peerURL := "http://127.0.0.1:" + strconv.Itoa(peer)
	return s.run(ctx, "etcd", port, exec.Command("etcd", "--data-dir", filepath.Join(s.dir, "etcd"), "--listen-client-urls", s.EtcdURL,
		"--advertise-client-urls", s.EtcdURL, "--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL,
		"--initial-cluster", "default="+peerURL, "--logger", "zap", "--log-level", "error"))
}

// startPostgres starts PostgreSQL, which does not run as root: then it runs as the user
// that Debian's package made.
func (s *Servers) startPostgres(ctx context.Context) error {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return errors.New("PostgreSQL is not installed: bench/peers/install.sh does it")
	}
	bin := slices.Max(bins)
	port, err := freePort()
	if err != nil {
		return err
	}
	as, err := notRoot()
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if as != nil {
		if err := os.Chown(dir, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "bench", "--auth=trust", "-E", "UTF8", "--locale=C")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-k", dir,
		"-c", "max_connections=400", "-c", "shared_buffers=256MB", "-c", "fsync=on", "-c", "synchronous_commit=on")
	cmd.SysProcAttr, cmd.Dir = as, dir
	s.PostgresURL = "postgres://bench@127.0.0.1:" + strconv.Itoa(port) + "/postgres?sslmode=disable"
	return s.run(ctx, "postgres", port, cmd)
}

// notRoot is what makes a process run as Debian's postgres user; nil when this process
// is not root's.
func notRoot() (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// reachable makes a folder and those above it passable for other users, up to the
// system's own.
func reachable(dir string) error {
	for ; strings.HasPrefix(dir, os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil && dir != os.TempDir() {
			return err
		}
	}
	return nil
}
