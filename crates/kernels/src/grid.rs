//! Workgroup counts that respect the limit of one dimension.

/// WebGPU's default for `maxComputeWorkgroupsPerDimension`.
const MAX: u32 = 65_535;

/// `count` workgroups as a grid of two dimensions; the kernel takes `y * num_workgroups.x + x` and
/// returns when that is out of range.
pub(crate) fn grid(count: u32) -> [u32; 3] {
    let y = count.div_ceil(MAX);
    [if y > 1 { count.div_ceil(y) } else { count }, y, 1]
}

#[cfg(test)]
mod tests {
    use super::{MAX, grid};

    #[test]
    fn a_grid_covers_all_and_stays_within_the_limit() {
        for count in [0, 1, MAX, MAX + 1, 3 * MAX + 7, 100_000_000] {
            let [x, y, _] = grid(count);
            assert!(x <= MAX && y <= MAX);
            assert!(u64::from(x) * u64::from(y) >= u64::from(count));
        }
    }
}
