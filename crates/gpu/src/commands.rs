//! GPU work as plain data, recorded apart from the engine that runs it.

use crate::{Kernel, Slice};

/// The value of a WGSL `override`.
pub type Constant = (&'static str, u32);

/// How a launch may be cut into several. Each part gets the index of its first workgroup in `u32`
/// fields of `Params`, which the kernel adds to its own; recorded, they are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Workgroups are one line, `y * num_workgroups.x + x`.
    Line {
        /// Byte offset of the field in `Params`.
        field: usize,
        /// Workgroups at the front that take more than their share, and the operations of all of
        /// them: (0, 0) where the work is even.
        front: (u32, u64),
    },
    /// Workgroups are a plane of x and y.
    Plane {
        /// Byte offset of the field for x in `Params`; that for y follows it.
        field: usize,
    },
}

/// One kernel launch.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What to run.
    pub kernel: &'static Kernel,
    /// Values of its `override` constants; part of the pipeline's identity.
    pub constants: Vec<Constant>,
    /// Bytes of the `Params` struct.
    pub params: Vec<u8>,
    /// Storage bindings, `@binding(1)` first.
    pub bindings: Vec<Slice>,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// Rough number of arithmetic operations, by which submissions are sized.
    pub cost: u64,
    /// Turns of the loops of the invocation that makes most of them, one after the other: what bounds the launch
    /// on a device that has room for every invocation at once.
    pub serial: u64,
    /// How to cut it where it is more work than one submission may hold; `None`: not at all.
    pub split: Option<Split>,
}

impl Dispatch {
    /// Workgroups in all.
    pub(crate) fn groups(&self) -> u64 {
        self.workgroups.iter().map(|&n| u64::from(n)).product()
    }
}

/// A launch that was just recorded.
pub struct Launch<'a>(Option<&'a mut Dispatch>);

impl Launch<'_> {
    /// Lets the launch be cut. Every kernel that can outlast a submission says how.
    pub fn split(mut self, split: Split) -> Self {
        if let Some(dispatch) = &mut self.0 {
            dispatch.split = Some(split);
        }
        self
    }

    /// Says how many turns of its loops an invocation makes one after the other; a loop over a number that is part of
    /// the kernel is one turn of the loop around it.
    pub fn serial(mut self, turns: impl Into<u64>) -> Self {
        if let Some(dispatch) = &mut self.0 {
            dispatch.serial = turns.into();
        }
        self
    }
}

/// One recorded step.
#[derive(Debug, Clone)]
pub enum Command {
    /// A kernel launch.
    Dispatch(Dispatch),
    /// Copy the first `bytes` of one range to the start of another (a multiple of 4).
    Copy {
        /// Source.
        from: Slice,
        /// Target, in another buffer.
        to: Slice,
        /// Byte offset in the target.
        to_offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Fill a range with zeros.
    Clear(Slice),
    /// The end of a layer. A submission ends here while the device's speed is not yet known.
    Boundary,
}

/// A list of commands that run in order; each sees the results of those before it.
#[derive(Debug, Default)]
pub struct Commands {
    pub(crate) items: Vec<Command>,
}

impl Commands {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a kernel launch. `P` is the Rust twin of the WGSL `Params` struct. A launch of zero
    /// workgroups is dropped.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        kernel: &'static Kernel,
        constants: &[Constant],
        params: &P,
        bindings: &[Slice],
        workgroups: [u32; 3],
        cost: u64,
    ) -> Launch<'_> {
        if workgroups.contains(&0) {
            return Launch(None);
        }
        self.items.push(Command::Dispatch(Dispatch {
            kernel,
            constants: constants.to_vec(),
            params: bytemuck::bytes_of(params).to_vec(),
            bindings: bindings.to_vec(),
            workgroups,
            cost,
            serial: 1,
            split: None,
        }));
        match self.items.last_mut() {
            Some(Command::Dispatch(dispatch)) => Launch(Some(dispatch)),
            _ => Launch(None),
        }
    }

    /// Records a copy of the first `bytes` of a range into another buffer's range, `to_offset` bytes
    /// (a multiple of 4) from its start.
    pub fn copy(
        &mut self,
        from: impl Into<Slice>,
        to: impl Into<Slice>,
        to_offset: u64,
        bytes: u64,
    ) {
        if bytes > 0 {
            let (from, to) = (from.into(), to.into());
            self.items.push(Command::Copy { from, to, to_offset, bytes });
        }
    }

    /// Records zeroing a range.
    pub fn clear(&mut self, range: impl Into<Slice>) {
        self.items.push(Command::Clear(range.into()));
    }

    /// Marks the end of a layer.
    pub fn boundary(&mut self) {
        self.items.push(Command::Boundary);
    }

    /// Everything recorded so far.
    pub fn items(&self) -> &[Command] {
        &self.items
    }

    /// Number of kernel launches recorded.
    pub fn dispatches(&self) -> usize {
        self.launches().count()
    }

    /// Turns of loops that no device can make at the same time: of the longest invocation of every launch.
    pub fn critical_iterations(&self) -> u64 {
        self.launches().map(|launch| launch.serial).sum()
    }

    /// Bytes that the launches bind, each range once a launch, and operations as recorded: what a step moves at
    /// least, if nothing stays in a cache from one launch to the next, and what it computes.
    pub fn traffic(&self) -> (u64, u64) {
        self.launches().fold((0, 0), |(bytes, operations), launch| {
            let mut ranges: Vec<_> =
                launch.bindings.iter().map(|b| (b.buffer.id(), b.offset, b.bytes)).collect();
            ranges.sort_unstable();
            ranges.dedup();
            let bound: u64 = ranges.iter().map(|range| range.2).sum();
            (bytes + bound, operations + launch.cost)
        })
    }

    /// The kernel launches, in order.
    pub fn launches(&self) -> impl Iterator<Item = &Dispatch> {
        self.items.iter().filter_map(|item| match item {
            Command::Dispatch(dispatch) => Some(dispatch),
            _ => None,
        })
    }

    /// Appends another list.
    pub fn append(&mut self, mut other: Commands) {
        self.items.append(&mut other.items);
    }
}
