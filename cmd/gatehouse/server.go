package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
)

const defaultServer = "mqtt://127.0.0.1:1883"

// serverFlags say which broker a command talks to, and as whom.
type serverFlags struct {
	server       string
	data         string
	user         string
	passwordFile string
}

func (f *serverFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", defaultServer, "the broker: mqtt://HOST:PORT or unix:///PATH")
	cmd.Flags().StringVar(&f.data, "data", "", "data folder of the gateway: its Unix socket is used, whose clients may do everything")
	cmd.Flags().StringVar(&f.user, "user", "", "user name; the password is in --password-file, or asked for")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file whose first line is the password")
	cmd.MarkFlagsMutuallyExclusive("server", "data")
}

// login is as whom a client connects; without a user it is anonymous.
type login struct {
	user     string
	password []byte
}

// dial connects as the flags say.
func (f *serverFlags) dial(cmd *cobra.Command) (*client, error) {
	server := f.server
	if f.data != "" {
		path, err := filepath.Abs(filepath.Join(f.data, gateway.SocketName))
		if err != nil {
			return nil, err
		}
		server = "unix://" + path
	}
	as, err := f.login(cmd)
	if err != nil {
		return nil, err
	}
	return dial(cmd.Context(), server, as)
}

func (f *serverFlags) login(cmd *cobra.Command) (login, error) {
	as := login{user: f.user}
	switch {
	case f.user == "" && f.passwordFile != "":
		return as, errors.New("--password-file needs --user")
	case f.user == "":
		return as, nil
	case f.passwordFile == "":
		var err error
		as.password, err = hiddenPassword(cmd, f.user)
		return as, err
	}
	text, err := os.ReadFile(f.passwordFile)
	if err != nil {
		return as, fmt.Errorf("cannot read the password: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	as.password = bytes.TrimRight(line, "\r")
	return as, nil
}

// hiddenPassword asks the terminal: standard input may be the payload.
func hiddenPassword(cmd *cobra.Command, user string) ([]byte, error) {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal to ask for the password: give --password-file")
	}
	defer terminal.Close() //nolint:errcheck // it was read
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	line, err := hidden(ctx, terminal, terminal, fmt.Sprintf("Password for %s: ", user))
	return bytes.TrimRight(line, "\r"), err
}
