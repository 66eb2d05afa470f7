//! Errors of the device layer.

use thiserror::Error;

/// What can go wrong with a device. Each message says what was expected, what was found, and what
/// to do.
#[derive(Debug, Clone, Error)]
pub enum GpuError {
    /// There is no adapter at all.
    #[error(
        "no GPU adapter found: install a Vulkan, Metal or D3D12 driver (on Debian `apt-get install \
         mesa-vulkan-drivers` gives a software one), or in a browser enable WebGPU. Details: {0}"
    )]
    NoAdapter(String),
    /// An adapter was asked for by name, and none matches.
    #[error("no GPU adapter matches {wanted:?}; available: {available}")]
    NoSuchAdapter {
        /// What was asked for.
        wanted: String,
        /// The names that exist, comma-separated.
        available: String,
    },
    /// The adapter refused to make a device with the limits asked for.
    #[error(
        "the adapter {adapter} cannot open a device: {reason}; update its driver, or choose another adapter"
    )]
    NoDevice {
        /// Adapter name.
        adapter: String,
        /// The driver's reason.
        reason: String,
    },
    /// A buffer is larger than the device allows.
    #[error(
        "buffer {label:?} needs {bytes} bytes, but this device allows {limit} in one {what}: \
         use a smaller batch or a smaller model"
    )]
    TooLarge {
        /// Buffer label.
        label: String,
        /// Wanted size in bytes.
        bytes: u64,
        /// Limit in bytes.
        limit: u64,
        /// "buffer" or "binding".
        what: &'static str,
    },
    /// The device ran out of memory.
    #[error("the GPU is out of memory ({in_use} bytes in use by Hearth): {reason}")]
    OutOfMemory {
        /// Bytes that Hearth holds.
        in_use: u64,
        /// The driver's text.
        reason: String,
    },
    /// The device was lost: driver reset, watchdog, unplugged, tab in the background for too long.
    #[error(
        "the GPU device was lost: {0}. Reload the page or start the program again; a training run resumes from its snapshot"
    )]
    Lost(String),
    /// The driver or wgpu refused something: a bug of ours or of the driver.
    #[error("the GPU refused a command: {0}")]
    Invalid(String),
    /// A dispatch does not fit the device.
    #[error("kernel {kernel}: {count} workgroups in one dimension, but this device allows {limit}")]
    TooManyWorkgroups {
        /// Kernel label.
        kernel: String,
        /// Wanted workgroups.
        count: u32,
        /// The device's limit.
        limit: u32,
    },
    /// The number of bindings differs from what the kernel declares.
    #[error("kernel {kernel}: {found} bindings recorded, {expected} declared")]
    Bindings {
        /// Kernel label.
        kernel: String,
        /// Bindings that the kernel declares, the uniform included.
        expected: usize,
        /// Bindings that were recorded.
        found: usize,
    },
}
