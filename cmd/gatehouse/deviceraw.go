package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

func (f *deviceFlags) raw() *cobra.Command {
	var direct directFlags
	cmd := &cobra.Command{
		Use:   "raw --tcp HOST|--port PORT HEX...",
		Short: "Send a Modbus PDU in hexadecimal and explain the answer",
		Long: `Send a PDU, function code first, without unit and checksum, to a Modbus device and print
the answer in hexadecimal and explained. What the PDU asks for is done: 05, 06, 0f, 10, 16
and 17 write.`,
		Example: `  gatehouse device raw --tcp 192.168.1.20 --unit 1 03 0064 0002
  gatehouse device raw --port /dev/ttyUSB0 --baud 9600 --parity none "2b 0e 01 00"
  gatehouse device raw --tls plc --ca ca.pem --certificate gw.pem --key gw.key 11`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pdu, err := hex.DecodeString(strings.NewReplacer(" ", "", ":", "", "0x", "").Replace(strings.Join(args, "")))
			if err != nil {
				return fmt.Errorf("the PDU must be bytes in hexadecimal, such as 03 00 64 00 02: %w", err)
			}
			if direct.unit < 0 || direct.unit > 255 {
				return fmt.Errorf("unit must be 0 to 255, not %d", direct.unit)
			}
			c, err := direct.dial()
			if err != nil {
				return err
			}
			answer, err := c.Do(cmd.Context(), uint8(direct.unit), pdu)
			err = errors.Join(err, c.Close())
			if err != nil {
				return portHint(err)
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s\n", strings.ToUpper(spaced(answer)))
			explain(out, pdu, answer)
			return nil
		},
	}
	direct.line(cmd)
	cmd.Flags().IntVar(&direct.unit, "unit", 1, "unit identifier")
	return cmd
}

// portHint adds what to do about a port that is in use.
func portHint(err error) error {
	if err != nil && strings.Contains(err.Error(), "in use") {
		return fmt.Errorf("%w: a running gateway keeps the ports of its devices, so take the device's file out of its folder meanwhile, or stop it", err)
	}
	return err
}

func spaced(b []byte) string {
	words := make([]string, len(b))
	for i := range b {
		words[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(words, " ")
}

// explain tells what an answer to a request means.
func explain(out io.Writer, request, answer []byte) {
	fn := modbus.Function(answer[0])
	fmt.Fprintf(out, "%v\n", fn)
	address := 0
	if len(request) >= 5 {
		address = int(binary.BigEndian.Uint16(request[1:]))
	}
	switch fn {
	case modbus.ReadCoils, modbus.ReadDiscreteInputs:
		count := int(binary.BigEndian.Uint16(request[3:]))
		for i := range count {
			fmt.Fprintf(out, "%6d  %t\n", address+i, answer[2+i/8]>>(i%8)&1 == 1)
		}
	case modbus.ReadHoldingRegisters, modbus.ReadInputRegisters, modbus.ReadWriteRegisters:
		for i := 2; i+1 < len(answer); i += 2 {
			word := binary.BigEndian.Uint16(answer[i:])
			fmt.Fprintf(out, "%6d  %04X  %5d  %6d  %q\n", address+i/2-1, word, word, int16(word), answer[i:i+2])
		}
	case modbus.WriteSingleCoil, modbus.WriteSingleRegister, modbus.WriteMultipleCoils, modbus.WriteMultipleRegisters, modbus.MaskWriteRegister:
		fmt.Fprintf(out, "written at %d\n", address)
	default:
		fmt.Fprintf(out, "%q\n", answer[1:])
	}
}
