package host

// LooksUnderWay counts the looks at file systems that have not ended.
func LooksUnderWay(d *Driver) int {
	d.looks.mu.Lock()
	defer d.looks.mu.Unlock()
	return len(d.looks.underWay)
}
