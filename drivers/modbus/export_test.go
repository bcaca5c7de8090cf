package modbus

// AppendCRC adds the checksum of an RTU frame.
func AppendCRC(frame []byte) []byte { return appendCRC(frame) }
