//! The allocator of every Plimsoll process.
//!
//! A watch replaces what a replica holds of a whole fleet, on whichever thread. glibc keeps a heap
//! for each thread and hardly gives any of it back; jemalloc is told here to share two and to give
//! back what was not used for a tenth of a second.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A C string that jemalloc reads before `main`: its interface for a program's own defaults.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 46] = b"narenas:2,dirty_decay_ms:100,muzzy_decay_ms:0\0";
