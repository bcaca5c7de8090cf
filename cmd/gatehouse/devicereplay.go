package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// wireReplayFlags are those of `device replay`.
type wireReplayFlags struct {
	file   string
	head   drivers.RecordingHead
	listen string
	frames string
	port   string
	baud   int
	pty    string
	unit   int
	timing string
}

func newDeviceReplay() *cobra.Command {
	var f wireReplayFlags
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Be the device whose wire was recorded by device record",
		Long: `Answer as the device did whose wire was recorded by device record: a Modbus device as
driver modbus-simulator does, any other the same requests by the same bytes, and what it
said by itself at its time, over and over. It says where it is found, and goes on until it
is interrupted.

Without a flag it is found the way that the device was: over TCP on loopback, or at a
pseudo-terminal beside the recording, which is opened as a serial port is.`,
		Example: `  gatehouse device replay meter.jsonl
  gatehouse device replay meter.jsonl --listen 127.0.0.1:5020 --timing none
  gatehouse device replay meter.jsonl --pty /tmp/meter`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.file = args[0]
			return f.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&f.listen, "listen", "", "loopback address to listen on, such as 127.0.0.1:5020; port 0 is any that is free")
	cmd.Flags().StringVar(&f.frames, "frames", "", "of Modbus with --listen: tcp, or rtu or ascii in a TCP stream")
	cmd.Flags().StringVar(&f.pty, "pty", "", "pseudo-terminal to make, a link to it")
	cmd.Flags().StringVar(&f.port, "port", "", "serial port of a Modbus device")
	cmd.Flags().IntVar(&f.baud, "baud", 0, "baud rate of --port (default 19200)")
	cmd.Flags().IntVar(&f.unit, "unit", -1, "the only Modbus unit that answers (default: all of the recording)")
	cmd.Flags().StringVar(&f.timing, "timing", "recorded", "how long answers take: recorded or none")
	cmd.MarkFlagsMutuallyExclusive("listen", "pty", "port")
	return cmd
}

// errHead ends the reading of a recording behind its head.
var errHead = errors.New("the head was read")

func (f *wireReplayFlags) run(ctx context.Context, out io.Writer) error {
	if f.timing != "recorded" && f.timing != "none" {
		return fmt.Errorf("--timing must be recorded or none, not %q", f.timing)
	}
	file, err := os.Open(f.file)
	if err != nil {
		return fmt.Errorf("cannot read the recording: %w", err)
	}
	defer func() { _ = file.Close() }() // it was read
	err = drivers.ReadRecording(f.file, file, func(h drivers.RecordingHead) (func(drivers.Traffic) error, error) {
		f.head = h
		return nil, errHead
	})
	if !errors.Is(err, errHead) {
		return err
	}
	f.choose()
	if f.pty != "" {
		if f.pty, err = filepath.Abs(f.pty); err != nil {
			return err
		}
	}
	if f.head.Wire.Protocol != drivers.ProtocolSerial {
		return f.modbus(ctx, out)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read the recording: %w", err)
	}
	replay, err := serial.ReadReplay(f.file, file)
	if err != nil {
		return err
	}
	return f.serial(ctx, out, replay)
}

// choose finds a place like that of the device, if none is given.
func (f *wireReplayFlags) choose() {
	kind, _, _ := strings.Cut(f.head.Wire.Place, " ")
	switch {
	case f.listen != "" || f.pty != "" || f.port != "":
	case kind == "serial":
		f.pty = strings.TrimSuffix(f.file, filepath.Ext(f.file)) + ".pty"
	default:
		f.listen = "127.0.0.1:0"
		if frames, stream := strings.CutSuffix(kind, "_tcp"); stream && f.frames == "" {
			f.frames = frames
		}
	}
}

// tell says where the device is found.
func (f *wireReplayFlags) tell(out io.Writer, where, keys string) {
	fmt.Fprintf(out, "%s: the wire of %q (%s, %s), recorded %s by %s\n", f.file, f.head.Device, f.head.Wire.Protocol, f.head.Wire.Place,
		f.head.At.Local().Format("2006-01-02 15:04:05"), f.head.Program)
	fmt.Fprintf(out, "it is found at %s now; keys of a device file for it:\n\n%s\n", where, keys)
}

// deviceFile is a file of the simulator, and the keys by which a device finds it.
func (f *wireReplayFlags) deviceFile() (text string, keys func(net.Addr) string, err error) {
	path, err := filepath.Abs(f.file)
	if err != nil {
		return "", nil, err
	}
	text = fmt.Sprintf("driver: modbus-simulator\nrecording: %s\ntiming: %s\n", strconv.Quote(path), f.timing)
	if f.unit >= 0 {
		text += fmt.Sprintf("unit: %d\n", f.unit)
	}
	line := ""
	switch {
	case f.head.Wire.Protocol == drivers.ProtocolModbusASCII:
		line = ", mode: ascii"
	case f.baud != 0:
		line = fmt.Sprintf(", baud: %d", f.baud)
	}
	switch {
	case f.listen != "":
		text += fmt.Sprintf("listen: %s\n", strconv.Quote(f.listen))
		kind := "tcp"
		if f.frames != "" {
			text += fmt.Sprintf("frames: %s\n", strconv.Quote(f.frames))
			kind = map[string]string{"rtu": "rtu_tcp", "ascii": "ascii_tcp"}[f.frames]
		}
		return text, func(a net.Addr) string {
			return fmt.Sprintf("driver: modbus\n%s: %s\nunit: %d\n", cmp.Or(kind, "tcp"), a, f.head.Wire.Unit)
		}, nil
	case f.pty != "":
		text += fmt.Sprintf("serial: {port: %s%s}\n", strconv.Quote("pty:"+f.pty), line)
	default:
		text += fmt.Sprintf("serial: {port: %s%s}\n", strconv.Quote(f.port), line)
	}
	return text, func(net.Addr) string {
		return fmt.Sprintf("driver: modbus\nserial: {port: %s%s}\nunit: %d\n", cmp.Or(f.pty, f.port), line, f.head.Wire.Unit)
	}, nil
}

// modbus is a Modbus device.
func (f *wireReplayFlags) modbus(ctx context.Context, out io.Writer) (err error) {
	text, keys, err := f.deviceFile()
	if err != nil {
		return err
	}
	cfg, err := drivers.ParseConfig("replay", "command line", []byte(text))
	if err != nil {
		return plain(err)
	}
	driver, err := modbusDriver()
	if err != nil {
		return err
	}
	sim, err := driver.Simulator().Open(ctx, cfg)
	if err != nil {
		return portHint(plain(err))
	}
	defer func() { err = errors.Join(err, sim.Close()) }()
	at := sim.(interface{ Addr() net.Addr }).Addr()
	where := cmp.Or(f.pty, f.port)
	if at != nil {
		where = at.String()
	}
	f.tell(out, where, keys(at))
	select {
	case <-ctx.Done():
		return nil
	case lost := <-sim.(drivers.Pusher).Pushed():
		return lost.Err
	}
}

// serial is any other device, at a pseudo-terminal or for those who connect.
func (f *wireReplayFlags) serial(ctx context.Context, out io.Writer, replay *serial.Replay) (err error) {
	hasty := f.timing == "none"
	switch {
	case f.port != "" || f.frames != "" || f.unit >= 0:
		return errors.New("--port, --frames and --unit are for Modbus; a serial device is replayed at --pty or --listen")
	case f.pty != "":
		port, err := serial.OpenPseudo(ctx, f.pty)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, port.Close()) }()
		f.tell(out, f.pty, "driver: serial\nport: "+f.pty+"\n")
		return replay.Run(ctx, port, hasty)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", f.listen, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	f.tell(out, ln.Addr().String(), "# socat pty,rawer,link=/tmp/replay tcp:"+ln.Addr().String()+"\ndriver: serial\nport: /tmp/replay\n")
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		clients.Go(func() {
			defer func() { _ = c.Close() }()
			_ = replay.Run(ctx, &timedConn{Conn: c}, hasty) // it ends with the connection
		})
	}
}

// timedConn is a connection that reads for a time.
type timedConn struct {
	net.Conn
	timeout time.Duration
}

func (c *timedConn) SetReadTimeout(d time.Duration) error { c.timeout = d; return nil }

func (c *timedConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

func (c *timedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
