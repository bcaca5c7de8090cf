// Package startheap has the heap of a start in huge pages.
//
// A start touches some megabytes of heap for the first time, page by page. Where every
// page of 4 KiB is a fault, and where each costs 5 to 15 us, as on a virtual machine, that
// is a good part of the time before the first rule fires. Two or four huge pages cost less
// than a millisecond. Linux gives them to who asks (madvise(2), MADV_HUGEPAGE), if
// /sys/kernel/mm/transparent_hugepage/enabled allows it.
//
// Most of that is before main, in the initializers of libraries. So this package asks in
// one of its own, and imports nothing that would have it initialized late.
// [Grow] asks once more, for what a command starts. [GiveBack] ends it: a huge page that
// is hardly used is memory lost.
//
// What is known of Go's heap here (where it takes the next block from, how it grows) is
// only hoped for: if it is otherwise, a start is as slow as without. Nothing is done
// where pages are not of 4 KiB, and on machines of 32 bits, which have no huge pages.
package startheap
