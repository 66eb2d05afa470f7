//! Time per kernel, measured by the device where it can.

use std::sync::{MutexGuard, PoisonError};

use web_time::Instant;

use crate::{
    Command, Commands, Gpu, GpuError,
    cut::{MAX_LAUNCHES, Piece},
};

/// How long one dispatch took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The kernel's label.
    pub label: &'static str,
    /// Seconds on the device, or on the host's clock where the device has no timestamps.
    pub seconds: f64,
    /// Operations as recorded.
    pub cost: u64,
}

impl Gpu {
    /// Runs the commands one dispatch a pass and returns the time of each, in order.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn time(&self, commands: &Commands) -> Result<Vec<Timing>, GpuError> {
        self.finish().await?;
        if self.capabilities().timestamps {
            self.time_on_device(commands).await
        } else {
            self.time_on_host(commands).await
        }
    }

    /// Times every dispatch that `work` runs on this device, by whichever clone, in order.
    ///
    /// # Errors
    /// What `work` returns.
    pub async fn profiled<T, E>(
        &self,
        work: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Vec<Timing>, E> {
        *self.lock_profile() = Some(Vec::new());
        let worked = work().await;
        let timings = self.lock_profile().take().unwrap_or_default();
        worked.map(|_| timings)
    }

    pub(crate) fn is_profiled(&self) -> bool {
        self.lock_profile().is_some()
    }

    pub(crate) async fn run_profiled(&self, commands: &Commands) -> Result<(), GpuError> {
        let timings = self.time(commands).await?;
        if let Some(all) = self.lock_profile().as_mut() {
            all.extend(timings);
        }
        Ok(())
    }

    fn lock_profile(&self) -> MutexGuard<'_, Option<Vec<Timing>>> {
        self.shared.profile_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn time_on_host(&self, commands: &Commands) -> Result<Vec<Timing>, GpuError> {
        let mut timings = Vec::new();
        for item in commands.items() {
            let mut one = Commands::new();
            one.items.push(item.clone());
            let start = Instant::now();
            self.run_by_pace(&one).await?;
            self.finish().await?;
            if let Command::Dispatch(d) = item {
                let seconds = start.elapsed().as_secs_f64();
                timings.push(Timing { label: d.kernel.label, seconds, cost: d.cost });
            }
        }
        Ok(timings)
    }

    async fn time_on_device(&self, commands: &Commands) -> Result<Vec<Timing>, GpuError> {
        let mut timings = Vec::new();
        // Two queries per launch; a query set holds 4096.
        for items in commands.items().chunks(MAX_LAUNCHES) {
            let dispatches: Vec<_> = items
                .iter()
                .filter_map(|item| match item {
                    Command::Dispatch(d) => Some((d.kernel.label, d.cost)),
                    _ => None,
                })
                .collect();
            let ticks = self.ticks(items, dispatches.len() as u32).await?;
            let period = f64::from(self.shared.queue.get_timestamp_period()) * 1e-9;
            timings.extend(dispatches.iter().zip(ticks.chunks_exact(2)).map(
                |(&(label, cost), t)| Timing {
                    label,
                    seconds: t[1].saturating_sub(t[0]) as f64 * period,
                    cost,
                },
            ));
        }
        Ok(timings)
    }

    async fn ticks(&self, items: &[Command], dispatches: u32) -> Result<Vec<u64>, GpuError> {
        let count = (2 * dispatches).max(2);
        let device = &self.shared.device;
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let buffer = |usage| {
            self.owned(device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: u64::from(count) * 8,
                usage,
                mapped_at_creation: false,
            }))
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let pieces: Vec<Piece> = items.iter().map(Piece::from).collect();
        let then = |encoder: &mut wgpu::CommandEncoder| {
            encoder.resolve_query_set(&queries, 0..2 * dispatches, resolved.raw(), 0);
            encoder.copy_buffer_to_buffer(resolved.raw(), 0, staging.raw(), 0, None);
        };
        let submitted =
            self.hand_over(&mut self.lock_pipelines(), &pieces, Some(&queries), then)?;
        let ticks = self.map(&staging, submitted.index).await;
        queries.destroy();
        ticks
    }
}
