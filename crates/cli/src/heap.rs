//! Measures the heap of this program: loading a model may take at most 64 MB of it, however large the file
//! is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a count of bytes in use.
struct Counting;

fn add(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new live side by side while the content moves.
        add(size);
        // SAFETY: the caller's contract is the system's.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        let gone = if moved.is_null() { size } else { layout.size() };
        IN_USE.fetch_sub(gone, Ordering::Relaxed);
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures from its creation on.
pub struct Meter {
    before: usize,
}

impl Meter {
    /// Starts. One meter at a time: there is one peak.
    pub fn start() -> Self {
        let before = IN_USE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        Self { before }
    }

    /// The most bytes that were in use at once, beyond those at the start.
    pub fn peak(&self) -> u64 {
        PEAK.load(Ordering::Relaxed).saturating_sub(self.before) as u64
    }

    /// Bytes in use now, beyond those at the start.
    pub fn held(&self) -> u64 {
        IN_USE.load(Ordering::Relaxed).saturating_sub(self.before) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;

    #[test]
    fn a_peak_is_seen_after_it_was_freed() {
        let meter = Meter::start();
        let mut large: Vec<u8> = Vec::with_capacity(300 << 20);
        large.push(1);
        drop(std::hint::black_box(large));
        // Other tests of this program allocate at the same time, but far less.
        assert!((300 << 20..400 << 20).contains(&meter.peak()), "{}", meter.peak());
        assert!(meter.held() < 100 << 20);
    }
}
