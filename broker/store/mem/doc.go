// Package mem is a [store.Store] in memory: nothing survives the process, and
// every ticket is done when Apply returns.
package mem
