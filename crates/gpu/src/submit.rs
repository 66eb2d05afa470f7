//! From recorded commands to short submissions, at most two in flight.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use web_time::Instant;

use crate::{
    Account, Command, Commands, Gpu, GpuError,
    pace::Pace,
    pipelines::{PARAMS_STRIDE, Pipelines, Prepared},
    signal::{Signal, signal},
};

/// Two keep the device busy while the host records; more would only make stopping slower.
const MAX_IN_FLIGHT: usize = 2;

/// A submission that the device still works on.
struct InFlight {
    index: wgpu::SubmissionIndex,
    done: Signal<Instant>,
    started: Instant,
    cost: u64,
}

#[derive(Default)]
pub(crate) struct Queue {
    in_flight: VecDeque<InFlight>,
    pace: Pace,
    last_done: Option<Instant>,
}

impl Gpu {
    /// Runs the commands in order. Returns when all are handed to the device and at most two
    /// submissions are unfinished.
    ///
    /// # Errors
    /// Anything that the device reported up to now: refused commands, memory, loss.
    pub async fn run(&self, commands: &Commands) -> Result<(), GpuError> {
        let mut rest = commands.items();
        while !rest.is_empty() {
            let budget = self.lock_queue().pace.budget();
            let (range, cost) = cut(rest, budget);
            let now = &rest[range.clone()];
            self.submit(now, cost)?;
            rest = &rest[range.end..];
            self.wait_until(MAX_IN_FLIGHT - 1).await;
            self.check()?;
        }
        Ok(())
    }

    /// Waits until the device has nothing left to do.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn finish(&self) -> Result<(), GpuError> {
        self.wait_until(0).await;
        self.check()
    }

    /// Hands over what [`Gpu::write`] has gathered, and waits until it is on the device.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn flush(&self) -> Result<(), GpuError> {
        self.submit(&[], 0)?;
        self.finish().await
    }

    /// Hands over a few small commands without waiting for anything.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub fn enqueue(&self, commands: &Commands) -> Result<(), GpuError> {
        let encoder = self.encode(commands.items(), None)?;
        self.shared.queue.submit([encoder.finish()]);
        self.check()
    }

    fn submit(&self, items: &[Command], cost: u64) -> Result<(), GpuError> {
        let encoder = self.encode(items, None)?;
        let index = self.shared.queue.submit([encoder.finish()]);
        let (sender, done) = signal();
        self.shared.queue.on_submitted_work_done(move || sender.send(Instant::now()));
        let started = Instant::now();
        self.lock_queue().in_flight.push_back(InFlight { index, done, started, cost });
        self.check()
    }

    /// Encodes commands; with `queries` each dispatch gets a pass of its own and two timestamps.
    pub(crate) fn encode(
        &self,
        items: &[Command],
        queries: Option<&wgpu::QuerySet>,
    ) -> Result<wgpu::CommandEncoder, GpuError> {
        let (prepared, params) = self.prepare(items)?;
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        let mut next = 0;
        let mut at = 0;
        while at < items.len() {
            match &items[at] {
                Command::Dispatch(_) => {
                    let run = dispatch_run(&items[at..], queries.is_some());
                    let timestamp_writes =
                        queries.map(|query_set| wgpu::ComputePassTimestampWrites {
                            query_set,
                            beginning_of_pass_write_index: Some(2 * next),
                            end_of_pass_write_index: Some(2 * next + 1),
                        });
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes,
                    });
                    for item in &items[at..at + run] {
                        if let Command::Dispatch(dispatch) = item {
                            let ready = &prepared[next as usize];
                            let [x, y, z] = dispatch.workgroups;
                            pass.set_pipeline(&ready.pipeline);
                            let offset = next * PARAMS_STRIDE as u32;
                            pass.set_bind_group(0, &ready.bind_group, &[offset]);
                            pass.dispatch_workgroups(x, y, z);
                            next += 1;
                        }
                    }
                    at += run;
                }
                Command::Copy { from, to, to_offset, bytes } => {
                    encoder.copy_buffer_to_buffer(
                        from.buffer.raw(),
                        from.offset,
                        to.buffer.raw(),
                        to.offset + to_offset,
                        Some(*bytes),
                    );
                    at += 1;
                }
                Command::Clear(range) => {
                    encoder.clear_buffer(range.buffer.raw(), range.offset, Some(range.bytes));
                    at += 1;
                }
                Command::Boundary => at += 1,
            }
        }
        drop(params);
        Ok(encoder)
    }

    /// Uploads all parameters in one write, and looks up pipelines and bind groups.
    fn prepare(&self, items: &[Command]) -> Result<(Vec<Prepared>, crate::Buffer), GpuError> {
        let dispatches: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Command::Dispatch(dispatch) => Some(dispatch),
                _ => None,
            })
            .collect();
        let mut pipelines = self.lock_pipelines();
        let params = pipelines.params(self, dispatches.len())?;
        let mut bytes = vec![0; dispatches.len() * PARAMS_STRIDE as usize];
        let mut prepared = Vec::with_capacity(dispatches.len());
        for (slot, dispatch) in bytes.chunks_mut(PARAMS_STRIDE as usize).zip(&dispatches) {
            slot[..dispatch.params.len()].copy_from_slice(&dispatch.params);
            prepared.push(pipelines.prepare(self, dispatch, &params)?);
        }
        // Ordered before the submission that follows, and after all earlier ones.
        self.shared.queue.write_buffer(params.raw(), 0, &bytes);
        Ok((prepared, params))
    }

    /// Waits until at most `left` submissions are unfinished.
    async fn wait_until(&self, left: usize) {
        loop {
            let Some(oldest) = ({
                let mut queue = self.lock_queue();
                if queue.in_flight.len() > left { queue.in_flight.pop_front() } else { None }
            }) else {
                return;
            };
            self.poll_for(Some(oldest.index));
            let at = oldest.done.await;
            let mut queue = self.lock_queue();
            let from = queue.last_done.map_or(oldest.started, |last| last.max(oldest.started));
            let ms = at.saturating_duration_since(from).as_secs_f64() * 1e3;
            queue.last_done = Some(at);
            queue.pace.measured(oldest.cost, ms);
        }
    }

    /// Natively blocks until the submission (or all work) is done and callbacks have run. The
    /// browser runs callbacks from its own event loop.
    pub(crate) fn poll_for(&self, index: Option<wgpu::SubmissionIndex>) {
        let wait = wgpu::PollType::Wait { submission_index: index, timeout: None };
        // A lost device fails here; its callback reports that with more words than this error has.
        let _ = self.shared.device.poll(wait);
    }

    /// Operations that one dispatch may hold to stay well inside a submission; larger ones are
    /// split by rows when recorded.
    pub fn dispatch_budget(&self) -> u64 {
        self.lock_queue().pace.budget().unwrap_or(1 << 33)
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.shared.pending)
    }

    pub(crate) fn lock_pipelines(&self) -> MutexGuard<'_, Pipelines> {
        lock(&self.shared.pipelines)
    }

    pub(crate) fn shared_account(&self) -> Arc<Account> {
        self.shared.account_handle()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many of the leading items go into one compute pass.
fn dispatch_run(items: &[Command], one_each: bool) -> usize {
    if one_each {
        return 1;
    }
    items.iter().take_while(|i| matches!(i, Command::Dispatch(_) | Command::Boundary)).count()
}

/// The leading part of `items` for one submission, and its cost. Without a budget it ends at the
/// first boundary.
fn cut(items: &[Command], budget: Option<u64>) -> (Range<usize>, u64) {
    let mut cost = 0;
    for (at, item) in items.iter().enumerate() {
        match item {
            Command::Dispatch(dispatch) => {
                if cost > 0 && budget.is_some_and(|budget| cost + dispatch.cost > budget) {
                    return (0..at, cost);
                }
                cost += dispatch.cost;
            }
            Command::Boundary if budget.is_none() && cost > 0 => return (0..at + 1, cost),
            _ => {}
        }
    }
    (0..items.len(), cost)
}

#[cfg(test)]
mod tests {
    use super::cut;
    use crate::{Access, Command, Dispatch, Kernel};

    static NOTHING: Kernel = Kernel {
        name: "nothing",
        label: "nothing",
        pieces: &[],
        source: "",
        bindings: &[Access::Params],
    };

    fn work(cost: u64) -> Command {
        Command::Dispatch(Dispatch {
            kernel: &NOTHING,
            constants: vec![],
            params: vec![],
            bindings: vec![],
            workgroups: [1, 1, 1],
            cost,
        })
    }

    #[test]
    fn a_submission_ends_at_the_first_layer_until_the_pace_is_known() {
        let items = [work(1), work(2), Command::Boundary, work(4)];
        assert_eq!(cut(&items, None), (0..3, 3));
        assert_eq!(cut(&items[3..], None), (0..1, 4));
    }

    #[test]
    fn a_submission_stays_within_the_budget_but_never_empty() {
        let items = [work(5), work(5), work(100), work(1)];
        assert_eq!(cut(&items, Some(10)), (0..2, 10));
        assert_eq!(cut(&items[2..], Some(10)), (0..1, 100));
        assert_eq!(cut(&items, Some(1000)), (0..4, 111));
    }
}
