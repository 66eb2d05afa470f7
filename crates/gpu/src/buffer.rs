//! Device buffers that are given back when their last user drops them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::Account;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Ids of buffers that were freed and may still have cached bind groups.
#[derive(Debug, Default)]
pub(crate) struct Freed(Mutex<Vec<u64>>);

impl Freed {
    fn push(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// The ids since the last call.
    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A raw buffer in the account of memory, destroyed when it is dropped. In the browser, dropping
/// wgpu's handle frees nothing before the next garbage collection; natively, bind groups would keep
/// the memory. Work that was submitted before still finishes.
pub(crate) struct Owned {
    raw: wgpu::Buffer,
    account: Arc<Account>,
}

impl Owned {
    pub(crate) fn new(raw: wgpu::Buffer, account: Arc<Account>) -> Self {
        account.add(raw.size());
        Self { raw, account }
    }

    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.raw.destroy();
        self.account.remove(self.raw.size());
    }
}

struct Inner {
    owned: Owned,
    /// Size in bytes; larger than what is owned where the buffer stands in.
    bytes: u64,
    id: u64,
    freed: Arc<Freed>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.freed.push(self.id);
    }
}

/// A storage buffer on the device. Clones share the same memory. Dropping the last clone frees it,
/// also where recorded but unsubmitted work is dropped with it.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

impl Buffer {
    pub(crate) fn new(owned: Owned, freed: Arc<Freed>) -> Self {
        let bytes = owned.raw().size();
        Self::standing_for(bytes, owned, freed)
    }

    /// A buffer that says it had `bytes`, for commands that are recorded and never run.
    pub(crate) fn standing_for(bytes: u64, owned: Owned, freed: Arc<Freed>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { owned, bytes, id, freed }))
    }

    /// Whether there is less memory than the size says: see [`crate::Gpu::outline`].
    pub(crate) fn stands_in(&self) -> bool {
        self.bytes() > self.raw().size()
    }

    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        self.0.owned.raw()
    }

    /// Unique for the life of the program: bind groups are cached by it.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The whole buffer as a binding.
    pub fn all(&self) -> Slice {
        Slice { buffer: self.clone(), offset: 0, bytes: self.bytes() }
    }

    /// A part of the buffer as a binding. `offset` is a multiple of 256 (the largest alignment
    /// that WebGPU's defaults ask for); both count bytes.
    pub fn slice(&self, offset: u64, bytes: u64) -> Slice {
        debug_assert!(offset.is_multiple_of(256) && offset + bytes <= self.bytes());
        Slice { buffer: self.clone(), offset, bytes }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({}, {} bytes)", self.0.id, self.bytes())
    }
}

/// A range of a buffer, ready to be bound.
#[derive(Clone, Debug)]
pub struct Slice {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Slice {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A part of the range as a binding, as [`Buffer::slice`].
    pub fn slice(&self, offset: u64, bytes: u64) -> Slice {
        debug_assert!(offset + bytes <= self.bytes);
        self.buffer.slice(self.offset + offset, bytes)
    }

    /// The range from the start of this one to the end of another that begins after it in the same buffer, and the
    /// byte offset of the other in it.
    pub fn until(&self, other: &Slice) -> Option<(Slice, u64)> {
        let (end, offset) = (other.offset + other.bytes, other.offset.checked_sub(self.offset)?);
        let same = self.buffer.id() == other.buffer.id();
        same.then(|| (self.buffer.slice(self.offset, end - self.offset), offset))
    }
}

impl From<&Slice> for Slice {
    fn from(slice: &Slice) -> Self {
        slice.clone()
    }
}

impl From<&Buffer> for Slice {
    fn from(buffer: &Buffer) -> Self {
        buffer.all()
    }
}
