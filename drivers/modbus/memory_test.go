package modbus_test

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// memory is what a fake unit keeps that does what is written to it: every coil and holding
// register that was ever written, and how often. It does not do what it refuses.
type memory struct {
	cells  map[memoryCell]*memoryPast
	refuse modbus.Code // to all that is written; 0 is nothing
	most   uint16      // registers that one request may write; 0 is what the standard says
}

// memoryCell is a coil (ReadCoils) or a holding register (ReadHoldingRegisters).
type memoryCell struct {
	fn   modbus.Function
	addr uint16
}

// memoryPast is what a cell held since when, the newest last, and how often it was written.
type memoryPast struct {
	values []uint16
	since  []time.Time
	times  int
}

const (
	// lockedCoil is a coil that cannot be written, refusedByte the lower byte of
	// registers that cannot become what is asked.
	lockedCoil  = 990
	refusedByte = 0xEE
)

func newMemory() *memory { return &memory{cells: map[memoryCell]*memoryPast{}} }

// get is what a cell holds, and how often it was written.
func (m *memory) get(fn modbus.Function, addr uint16) (value uint16, times int) {
	if p := m.cells[memoryCell{fn, addr}]; p != nil {
		return p.values[len(p.values)-1], p.times
	}
	return 0, 0
}

func (m *memory) set(fn modbus.Function, addr, value uint16) {
	p := m.cells[memoryCell{fn, addr}]
	if p == nil {
		p = &memoryPast{values: []uint16{0}, since: []time.Time{{}}}
		m.cells[memoryCell{fn, addr}] = p
	}
	p.values, p.since = append(p.values, value), append(p.since, time.Now())
	p.times++
	if n := len(p.values) - 256; n > 0 {
		p.values, p.since = slices.Delete(p.values, 0, n), slices.Delete(p.since, 0, n)
	}
}

// held reports whether a cell has held a value at a time or later, seen through a mask.
func (m *memory) held(fn modbus.Function, addr, value, mask uint16, at time.Time) bool {
	p := m.cells[memoryCell{fn, addr}]
	if p == nil {
		return value == 0
	}
	for i := len(p.values) - 1; i >= 0; i-- {
		if (p.values[i]^value)&mask == 0 {
			return true
		}
		if p.since[i].Before(at) {
			return false
		}
	}
	return false
}

// owns reports whether a register is one of the memory.
func (m *memory) owns(fn modbus.Function, addr uint16) bool {
	return (fn == modbus.ReadCoils || fn == modbus.ReadHoldingRegisters) && addr >= 200
}

// write does what a request asks, or says why not.
func (m *memory) write(r modbus.Request) modbus.Code {
	if m.refuse != 0 {
		return m.refuse
	}
	if m.most > 0 && r.Fn == modbus.WriteMultipleRegisters && r.Count > m.most {
		return modbus.IllegalValue
	}
	type change struct {
		fn          modbus.Function
		addr, value uint16
	}
	var all []change
	registers := func(addr uint16, data []byte) {
		for i := 0; i+1 < len(data); i += 2 {
			all = append(all, change{modbus.ReadHoldingRegisters, addr + uint16(i/2), binary.BigEndian.Uint16(data[i:])})
		}
	}
	switch r.Fn {
	case modbus.WriteSingleCoil:
		all = append(all, change{modbus.ReadCoils, r.Addr, uint16(r.Data[0] & 1)})
	case modbus.WriteMultipleCoils:
		for i := range r.Count {
			all = append(all, change{modbus.ReadCoils, r.Addr + i, uint16(r.Data[i/8]>>(i%8)) & 1})
		}
	case modbus.MaskWriteRegister:
		and, or := binary.BigEndian.Uint16(r.Data), binary.BigEndian.Uint16(r.Data[2:])
		old, _ := m.get(modbus.ReadHoldingRegisters, r.Addr)
		all = append(all, change{modbus.ReadHoldingRegisters, r.Addr, old&and | or&^and})
	case modbus.ReadWriteRegisters:
		registers(binary.BigEndian.Uint16(r.Data), r.Data[5:])
	default:
		registers(r.Addr, r.Data)
	}
	for _, c := range all {
		if c.fn == modbus.ReadCoils && c.addr == lockedCoil || c.fn == modbus.ReadHoldingRegisters && c.value&0xFF == refusedByte {
			return modbus.IllegalValue
		}
	}
	for _, c := range all {
		m.set(c.fn, c.addr, c.value)
	}
	return 0
}
