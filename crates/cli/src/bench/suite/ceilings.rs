//! What the device can do at best: multiply-adds and bytes a second, measured by kernels that do nothing else.

use anyhow::{Context, Result, bail};
use hearth_gpu::{Access, Commands, Gpu, Kernel};
use serde::Serialize;

/// Seconds that a launch must take to be measured well: browsers' timestamps are coarse.
const LONG_ENOUGH: f64 = 5e-3;
/// Most launches of a kernel while its size is looked for.
const TRIES: usize = 24;
/// The best of so many runs counts.
const RUNS: usize = 5;
const WORKGROUP: u32 = 64;
/// Workgroups of the multiply-add kernels: 16 waves of 64 on each of 256 compute units.
const GROUPS: u32 = 4096;
/// Multiply-adds of an invocation in a round, as the shaders have it.
const FMA_A_ROUND: u64 = 128;
/// The factor, the summand and the first number of every chain.
const CHAIN: [f32; 3] = [0.75, 0.5, 1.0];
/// What a chain ends at, after enough rounds: x = ¾·x + ½.
const FIXED_POINT: f32 = 2.0;
/// Chains that an invocation adds up, lane by lane.
const CHAINS: f32 = 8.0;

static FMA: Kernel = Kernel {
    name: "ceiling_fma",
    label: "ceiling_fma",
    pieces: &["alias Number = f32;\n"],
    source: include_str!("../../../../../shaders/ceilings/ceiling_fma.wgsl"),
    bindings: &[Access::Params, Access::Write],
};
static FMA_F16: Kernel = Kernel {
    name: "ceiling_fma",
    label: "ceiling_fma_f16",
    pieces: &["enable f16;\nalias Number = f16;\n"],
    source: include_str!("../../../../../shaders/ceilings/ceiling_fma.wgsl"),
    bindings: &[Access::Params, Access::Write],
};
static COPY: Kernel = Kernel {
    name: "ceiling_copy",
    label: "ceiling_copy",
    pieces: &[],
    source: include_str!("../../../../../shaders/ceilings/ceiling_copy.wgsl"),
    bindings: &[Access::Params, Access::Read, Access::Write],
};

/// The most that the device gave.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceilings {
    /// Billions of f32 operations per second; a multiply-add is two.
    pub f32_gflops: f64,
    /// The same in f16; `None` where the device has no f16.
    pub f16_gflops: Option<f64>,
    /// Billions of bytes per second, read and written ones added up.
    pub copy_gb_per_second: f64,
}

/// Measures all of them.
pub async fn measure(gpu: &Gpu) -> Result<Ceilings> {
    let f16_gflops = if gpu.capabilities().f16 { Some(gflops(gpu, &FMA_F16).await?) } else { None };
    Ok(Ceilings {
        f32_gflops: gflops(gpu, &FMA).await?,
        f16_gflops,
        copy_gb_per_second: copy(gpu).await?,
    })
}

async fn gflops(gpu: &Gpu, kernel: &'static Kernel) -> Result<f64> {
    let invocations = WORKGROUP * GROUPS;
    let y = gpu.buffer(kernel.label, 16 * u64::from(invocations))?.all();
    let of = |rounds: u32| {
        let mut commands = Commands::new();
        let [factor, summand, start] = CHAIN.map(f32::to_bits);
        let params = [rounds, factor, summand, start];
        let cost = 2 * FMA_A_ROUND * u64::from(rounds) * u64::from(invocations);
        commands.dispatch(
            kernel,
            &[("WG", WORKGROUP)],
            &params,
            std::slice::from_ref(&y),
            [GROUPS, 1, 1],
            cost,
        );
        (commands, cost)
    };
    let mut rounds = 16;
    for _ in 0..TRIES {
        let (commands, _) = of(rounds);
        if seconds(gpu, &commands).await? >= LONG_ENOUGH {
            break;
        }
        rounds *= 2;
    }
    let (commands, cost) = of(rounds);
    let best = best_of(gpu, &commands).await?;
    let found: Vec<f32> = gpu.read(y).await?;
    let expected = CHAINS * FIXED_POINT;
    // f16 has 11 bits: each of the chains may be off by half a unit of the last place, 2^-10
    if let Some(wrong) = found.iter().find(|v| (*v - expected).abs() > 0.02) {
        bail!("{} gave {wrong} where {expected} is right: its speed means nothing", kernel.label);
    }
    Ok(cost as f64 / best / 1e9)
}

async fn copy(gpu: &Gpu) -> Result<f64> {
    let mut count: u32 = 1 << 18;
    loop {
        let numbers: Vec<f32> = (0..4 * count).map(|i| (i % 8191) as f32).collect();
        let x = gpu.buffer_from("copied", &numbers)?.all();
        let y = gpu.buffer("copy", 16 * u64::from(count))?.all();
        let groups = count.div_ceil(WORKGROUP);
        let across = groups.min(1 << 15);
        let mut commands = Commands::new();
        commands.dispatch(
            &COPY,
            &[("WG", WORKGROUP)],
            &[count, 0, 0, 0],
            &[x, y.clone()],
            [across, groups.div_ceil(across), 1],
            u64::from(count),
        );
        let bytes = 32 * u64::from(count);
        let last = 32 * u64::from(count) > gpu.max_binding() || count >= 1 << 25;
        if last || seconds(gpu, &commands).await? >= LONG_ENOUGH {
            let best = best_of(gpu, &commands).await?;
            let found: Vec<f32> = gpu.read(y).await?;
            if found != numbers {
                bail!("ceiling_copy did not copy: its speed means nothing");
            }
            return Ok(bytes as f64 / best / 1e9);
        }
        count *= 2;
    }
}

async fn seconds(gpu: &Gpu, commands: &Commands) -> Result<f64> {
    let timings = gpu.time(commands).await.context("measuring what the device can do at best")?;
    Ok(timings.iter().map(|timing| timing.seconds).sum())
}

async fn best_of(gpu: &Gpu, commands: &Commands) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        best = best.min(seconds(gpu, commands).await?);
    }
    Ok(best.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_gpu::GpuOptions;

    /// The kernels check their own results, so a ceiling is the speed of a right answer.
    #[test]
    fn a_device_has_ceilings() {
        let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
        let found = pollster::block_on(measure(&gpu)).unwrap();
        assert!(found.f32_gflops > 0.1 && found.copy_gb_per_second > 0.1, "{found:?}");
        assert_eq!(found.f16_gflops.is_some(), gpu.capabilities().f16);
    }
}
