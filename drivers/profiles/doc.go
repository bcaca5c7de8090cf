// Package profiles is the register maps of real devices as data: a device file that
// says "profile: eastron-sdm630" has that device's points. It knows nothing of
// Modbus; drivers/modbus reads the files, and cmd hands them to it.
//
// A profile is one YAML file, named after maker and series:
//
//	vendor: Eastron
//	models: [SDM630-Modbus V2, SDM630MCT]
//	kind: energy meter
//	sources:                            # where the addresses, types and scales were read
//	  - "volkszaehler/mbmd, meters/rs485/sdm.go (after Eastron, SDM630 register list)"
//	notes: what whoever wires it should know
//	serial: {baud: 9600, parity: none}  # as it leaves the factory; {} if no source says
//	tcp: 502                            # its port, if it has an Ethernet socket
//	unit: 1
//	identity:                           # registers that tell it from others
//	  - {input: 11, values: [1648]}
//	points:
//	  power: {input: 52, type: float32, unit: W, class: fast}
//	examples:                           # registers that a source gives with their meaning
//	  - {point: voltage_l1, registers: [0x4366, 0x3334], value: 230.2}
//
// A point has the keys of a device file's point, and a class that says how often it
// is worth reading: fast (power, current, voltage), normal (energy, temperature),
// slow (what hardly ever changes). What sources disagree about, or do not say, is not
// there.
//
// The same thing has the same name and unit in every profile: voltage_l1 (V),
// current_l1 (A), power (W: what a meter sees drawn, what an inverter gives),
// grid_power (W, drawn from the grid is positive), battery_power (W, charging is
// positive), battery_soc (%), energy_import and energy_export (kWh), energy_total (kWh),
// frequency (Hz), power_factor.
package profiles
