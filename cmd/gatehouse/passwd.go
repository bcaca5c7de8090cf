package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// maxPassword is the longest password in bytes.
const maxPassword = 1024

type passwdFlags struct {
	config string
	file   string
	scram  bool
	remove bool
}

func newPasswd() *cobra.Command {
	var f passwdFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Add, change or delete a user of the broker",
		Long: `Add a user to the users file, change the password, or delete the user. The password
is asked for on the terminal, or is the first line of standard input. A running gateway
takes the file as it is saved: clients of a user whose password was changed, or who was
deleted, are disconnected.

The file is made if it is missing, readable by its owner alone. The password is kept as
an argon2id hash or, with --scram, as the keys of SCRAM-SHA-256, which passwords are
checked against as well.`,
		Example: `  gatehouse passwd --config gatehouse.yaml anna
  gatehouse passwd --file /etc/gatehouse/users --delete anna
  pwgen -s 32 1 | tee sensor.secret | gatehouse passwd --file users sensor`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file, whose broker.users names the users file")
	cmd.Flags().StringVar(&f.file, "file", "", "users file, instead of the one that the configuration names")
	cmd.Flags().BoolVar(&f.scram, "scram", false, "keep the keys of SCRAM-SHA-256")
	cmd.Flags().BoolVar(&f.remove, "delete", false, "delete the user")
	return cmd
}

func (f *passwdFlags) run(cmd *cobra.Command, name string) error {
	if err := auth.CheckName(name); err != nil {
		return err
	}
	file, err := f.users()
	if err != nil {
		return err
	}
	if f.remove {
		return f.edit(cmd, file, func(text []byte) ([]byte, string, error) {
			text, found := auth.RemoveUser(text, name)
			if !found {
				return nil, "", fmt.Errorf("there is no user %q in %q", name, file)
			}
			return text, fmt.Sprintf("user %q deleted", name), nil
		})
	}
	password, err := askPassword(cmd, name)
	if err != nil {
		return err
	}
	hash := auth.HashPassword
	if f.scram {
		hash = auth.ScramKeys
	}
	line := hash(password)
	return f.edit(cmd, file, func(text []byte) ([]byte, string, error) {
		did := "added"
		if _, found := auth.RemoveUser(text, name); found {
			did = "changed"
		}
		return auth.SetUser(text, name, line), fmt.Sprintf("user %q %s", name, did), nil
	})
}

// users is the path of the users file.
func (f *passwdFlags) users() (string, error) {
	if f.file != "" {
		return f.file, nil
	}
	if f.config == "" {
		return "", errors.New("which users file? Give --file FILE, or --config FILE of a configuration that names one in broker.users")
	}
	cfg, err := config.Read(f.config, os.Environ())
	if err != nil {
		return "", err
	}
	if cfg.Broker.Users == "" {
		return "", fmt.Errorf("%q names no users file: add broker: {users: FILE, acl: FILE}, or give --file FILE", f.config)
	}
	return cfg.Broker.Users, nil
}

// edit replaces the file by what change makes of it, while nobody else does the same.
func (f *passwdFlags) edit(cmd *cobra.Command, file string, change func(text []byte) ([]byte, string, error)) (err error) {
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }() // and with it goes the lock
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock the folder of %q: %w", file, err)
	}
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := auth.ParseUsers(file, text); err != nil {
		return fmt.Errorf("the users file has to be mended first: %w", err)
	}
	text, did, err := change(text)
	if err != nil {
		return err
	}
	if err := durable.Replace(file, text, 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), did)
	return err
}

// askPassword reads a password, twice from a terminal and without showing it.
func askPassword(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	terminal, ok := in.(*os.File)
	if ok {
		_, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		ok = err == nil
	}
	if !ok {
		line, err := bufio.NewReader(io.LimitReader(in, maxPassword+2)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return checkPassword(line)
	}
	first, err := hidden(cmd.Context(), terminal, cmd.ErrOrStderr(), fmt.Sprintf("Password for %s: ", name))
	if err != nil {
		return nil, err
	}
	if first, err = checkPassword(first); err != nil {
		return nil, err
	}
	again, err := hidden(cmd.Context(), terminal, cmd.ErrOrStderr(), "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, bytes.TrimRight(again, "\r\n")) {
		return nil, errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

func checkPassword(line []byte) ([]byte, error) {
	password := bytes.TrimRight(line, "\r\n")
	switch {
	case len(password) == 0:
		return nil, errors.New("the password is empty; nothing was changed")
	case len(password) > maxPassword:
		return nil, fmt.Errorf("the password has over %d bytes; nothing was changed", maxPassword)
	default:
		return password, nil
	}
}

// hidden reads a line from a terminal that does not show it. A signal ends the wait,
// and the terminal is left as it was.
func hidden(ctx context.Context, in *os.File, out io.Writer, prompt string) (line []byte, err error) {
	fd := int(in.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &silent); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETSF, before)) }()
	fmt.Fprint(out, prompt)
	defer fmt.Fprintln(out)
	for len(line) <= maxPassword+1 {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		var b [1]byte
		switch n, err := in.Read(b[:]); {
		case n == 0 || err != nil, b[0] == '\n':
			return line, nil // an end without a line is an empty password, which is refused
		default:
			line = append(line, b[0])
		}
	}
	return line, nil
}
