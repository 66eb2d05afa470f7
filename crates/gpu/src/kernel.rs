//! A kernel as plain data: its WGSL, the pieces put in front, and its bindings.

/// How a kernel uses one binding. The position in [`Kernel::bindings`] is the WGSL `@binding`
/// number; everything is in `@group(0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<uniform>`: the kernel's parameters. Always binding 0.
    Params,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// One compute entry point. The file's name, the entry point and the label are the same word.
#[derive(Debug)]
pub struct Kernel {
    /// File name without `.wgsl`, and entry point.
    pub name: &'static str,
    /// Label for pipelines, timings and errors: the name, and what distinguishes this variant.
    pub label: &'static str,
    /// Shared pieces put in front, in order.
    pub pieces: &'static [&'static str],
    /// The kernel's own file.
    pub source: &'static str,
    /// Bindings of group 0 in order, `Params` first.
    pub bindings: &'static [Access],
}

/// A kernel's identity: which static it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelId(pub(crate) &'static Kernel);

impl PartialEq for KernelId {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for KernelId {}

impl std::hash::Hash for KernelId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.0, state);
    }
}

impl Kernel {
    /// The whole WGSL text: the pieces, then the kernel's own file.
    pub fn wgsl(&self) -> String {
        let mut text = String::new();
        for piece in self.pieces.iter().chain([&self.source]) {
            text.push_str(piece);
            text.push('\n');
        }
        text
    }
}
