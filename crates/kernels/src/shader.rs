//! How a module declares its kernels: the WGSL text, what is prepended, and the bindings.

use std::sync::OnceLock;

use hearth_formats::layout::{CODES, WeightLayout};
use hearth_gpu::{Access, Kernel};

use crate::list::CODE_DECODERS;

/// Embeds `shaders/NAME.wgsl`.
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders/", $name, ".wgsl"))
    };
}
pub(crate) use wgsl;

/// Declares `KERNEL`: `shaders/NAME.wgsl`, the prepended pieces, and the bindings.
macro_rules! kernel {
    ($name:literal, [$($piece:literal),*], [$($access:ident),*]) => {
        #[doc = concat!("The kernel `", $name, "`.")]
        pub static KERNEL: hearth_gpu::Kernel = hearth_gpu::Kernel {
            name: $name,
            label: $name,
            pieces: &[$($crate::shader::wgsl!($piece)),*],
            source: $crate::shader::wgsl!($name),
            bindings: &[$(hearth_gpu::Access::$access),*],
        };

        pub(crate) fn kernels() -> Vec<&'static hearth_gpu::Kernel> {
            vec![&KERNEL]
        }
    };
}
pub(crate) use kernel;

/// Makes a [`KernelByLayout`] from `shaders/NAME.wgsl`, the texts between the weight decoder and
/// the kernel, and the bindings. A suffix tells labels apart where a file makes several kernels.
macro_rules! kernel_by_layout {
    ($name:literal $(, $suffix:literal)?, [$($piece:expr),*], [$($access:ident),*]) => {
        $crate::shader::KernelByLayout {
            name: $name,
            label: concat!($name, $($suffix)?),
            source: $crate::shader::wgsl!($name),
            pieces: &[$($piece),*],
            bindings: &[$(hearth_gpu::Access::$access),*],
            variants: std::sync::OnceLock::new(),
        }
    };
}
pub(crate) use kernel_by_layout;

/// A kernel that reads a weight matrix: one variant per row of [`CODES`].
pub(crate) struct KernelByLayout {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) source: &'static str,
    pub(crate) pieces: &'static [&'static str],
    pub(crate) bindings: &'static [Access],
    pub(crate) variants: OnceLock<Vec<Kernel>>,
}

impl KernelByLayout {
    /// The variant that decodes this layout.
    pub(crate) fn of(&'static self, layout: WeightLayout) -> &'static Kernel {
        &self.all()[layout.code_row()]
    }

    /// All variants, in the order of [`CODES`].
    pub(crate) fn all(&'static self) -> &'static [Kernel] {
        self.variants.get_or_init(|| {
            let variants = CODES.iter().zip(CODE_DECODERS);
            variants.map(|(code, decoder)| self.variant(code.name, code.scaled, decoder)).collect()
        })
    }

    fn variant(&self, code: &str, scaled: bool, decoder: &'static str) -> Kernel {
        let mut pieces = vec![wgsl!("shared/half")];
        pieces.extend(scaled.then_some(wgsl!("weights/scales")));
        pieces.push(decoder);
        pieces.extend(self.pieces);
        // Leaked once per variant: a kernel lives as long as the program, as the declared ones do.
        Kernel {
            name: self.name,
            label: format!("{}_{code}", self.label).leak(),
            pieces: pieces.leak(),
            source: self.source,
            bindings: self.bindings,
        }
    }
}
