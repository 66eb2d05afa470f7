//! Bytes of device memory that Hearth holds.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts device memory. It is exact for the buffers that Hearth creates; wgpu adds staging memory
/// of its own, and drivers round sizes up.
#[derive(Debug, Default)]
pub struct Account {
    in_use: AtomicU64,
    peak: AtomicU64,
    buffers: AtomicU64,
}

impl Account {
    pub(crate) fn add(&self, bytes: u64) {
        let now = self.in_use.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
        self.buffers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bytes: u64) {
        self.in_use.fetch_sub(bytes, Ordering::Relaxed);
        self.buffers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes in live buffers now.
    pub fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// The most bytes that were live at once since the last [`Account::reset_peak`].
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Live buffers.
    pub fn buffers(&self) -> u64 {
        self.buffers.load(Ordering::Relaxed)
    }

    /// Starts a new peak from what is in use now.
    pub fn reset_peak(&self) {
        self.peak.store(self.in_use(), Ordering::Relaxed);
    }
}

/// What wgpu's own allocator reports, natively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReport {
    /// Bytes handed out to resources.
    pub allocated: u64,
    /// Bytes reserved from the driver, gaps included.
    pub reserved: u64,
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn peak_survives_a_release() {
        let account = Account::default();
        account.add(10);
        account.add(5);
        account.remove(10);
        assert_eq!((account.in_use(), account.peak(), account.buffers()), (5, 15, 1));
        account.reset_peak();
        assert_eq!(account.peak(), 5);
    }
}
