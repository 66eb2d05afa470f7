//! From recorded commands to short submissions, at most two in flight.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_channel::oneshot;
use futures_util::{FutureExt, future::Shared};
use web_time::Instant;

use crate::{
    Command, Commands, Gpu, GpuError,
    cut::{Budget, Piece, Rest},
    pace::{Finished, Pace},
    pipelines::{PARAMS_STRIDE, Pipelines, Prepared},
};

/// Two keep the device busy while the host records; more would only delay stopping.
const MAX_IN_FLIGHT: usize = 2;

/// A submission that the device still works on.
#[derive(Clone)]
struct InFlight {
    number: u64,
    index: wgpu::SubmissionIndex,
    done: Shared<oneshot::Receiver<Instant>>,
    submitted: Instant,
    cost: u64,
    fresh: bool,
}

/// Submissions in the order in which they were handed over.
pub(crate) struct Queue {
    in_flight: VecDeque<InFlight>,
    pace: Pace,
    opened: Instant,
    next: u64,
}

impl Queue {
    pub(crate) fn new(software: bool) -> Self {
        Self {
            in_flight: VecDeque::new(),
            pace: Pace::new(software),
            opened: Instant::now(),
            next: 0,
        }
    }

    fn since_opened(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.opened)
    }

    /// Takes a finished submission off, unless another thread did, and learns from it.
    fn finished(&mut self, submission: &InFlight, waited_from: Instant, done: Option<Instant>) {
        if self.in_flight.front().is_none_or(|first| first.number != submission.number) {
            return;
        }
        self.in_flight.pop_front();
        if let Some(done) = done {
            self.pace.finished(Finished {
                cost: submission.cost,
                submitted: self.since_opened(submission.submitted),
                waited_from: self.since_opened(waited_from),
                done: self.since_opened(done),
                fresh: submission.fresh,
            });
        }
    }
}

/// What [`Gpu::hand_over`] gave to the device.
pub(crate) struct Submitted {
    pub(crate) index: wgpu::SubmissionIndex,
    /// A pipeline was made for it.
    fresh: bool,
}

impl Gpu {
    /// Runs the commands in order. Returns when all are handed to the device and at most one
    /// submission is unfinished.
    ///
    /// # Errors
    /// Anything that the device reported up to now: refused commands, memory, loss.
    pub async fn run(&self, commands: &Commands) -> Result<(), GpuError> {
        if self.is_profiled() {
            return self.run_profiled(commands).await;
        }
        self.run_by_pace(commands).await
    }

    /// The same, not timed.
    pub(crate) async fn run_by_pace(&self, commands: &Commands) -> Result<(), GpuError> {
        self.run_with(commands, |pace| pace.budget()).await
    }

    /// The same in submissions of at most so many operations, whatever was measured. What a kernel
    /// computes does not depend on how it is cut; kernel tests hold it to that.
    ///
    /// # Errors
    /// As [`Gpu::run`].
    pub async fn run_in_parts(&self, commands: &Commands, operations: u64) -> Result<(), GpuError> {
        self.run_with(commands, |_| Budget { operations, one_layer: false }).await
    }

    async fn run_with(
        &self,
        commands: &Commands,
        budget: impl Fn(&Pace) -> Budget,
    ) -> Result<(), GpuError> {
        let mut rest = Rest::new(commands.items());
        loop {
            let budget = budget(&self.lock_queue().pace);
            let Some((pieces, cost)) = rest.next(budget) else { return Ok(()) };
            self.submit(&pieces, cost)?;
            self.wait_until(MAX_IN_FLIGHT - 1).await?;
            self.check()?;
        }
    }

    /// Waits until the device has nothing left to do.
    ///
    /// # Errors
    /// Anything that the device reported up to now.
    pub async fn finish(&self) -> Result<(), GpuError> {
        self.wait_until(0).await?;
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

    fn submit(&self, pieces: &[Piece], cost: u64) -> Result<(), GpuError> {
        let (sender, done) = oneshot::channel();
        // Locked from here on, so that submissions queue up in the order in which they are listed.
        let mut pipelines = self.lock_pipelines();
        let submitted = Instant::now();
        let Submitted { index, fresh } = self.hand_over(&mut pipelines, pieces, None, |_| {})?;
        self.shared.queue.on_submitted_work_done(move || {
            // The receiver may be gone.
            let _ = sender.send(Instant::now());
        });
        let mut queue = self.lock_queue();
        let number = queue.next;
        queue.next += 1;
        let done = done.shared();
        queue.in_flight.push_back(InFlight { number, index, done, submitted, cost, fresh });
        drop((queue, pipelines));
        self.check()
    }

    /// Writes parameters, encodes the pieces and submits them, all under the caller's lock. With
    /// `queries` each launch gets a pass of its own and two timestamps; `then` encodes what follows.
    pub(crate) fn hand_over(
        &self,
        pipelines: &mut Pipelines,
        pieces: &[Piece],
        queries: Option<&wgpu::QuerySet>,
        then: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<Submitted, GpuError> {
        let prepared = self.prepare(pipelines, pieces)?;
        let fresh = prepared.iter().any(|one| one.fresh);
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        encode(&mut encoder, pieces, &prepared, queries);
        then(&mut encoder);
        let index = self.shared.queue.submit([encoder.finish()]);
        Ok(Submitted { index, fresh })
    }

    /// Uploads all parameters in one write, and looks up pipelines and bind groups.
    fn prepare(
        &self,
        pipelines: &mut Pipelines,
        pieces: &[Piece],
    ) -> Result<Vec<Prepared>, GpuError> {
        pipelines.evict_freed();
        let params = pipelines.params(self);
        let mut bytes = Vec::new();
        let mut prepared = Vec::new();
        for piece in pieces {
            let Command::Dispatch(dispatch) = piece.command else { continue };
            let start = bytes.len();
            bytes.extend_from_slice(&dispatch.params);
            piece.write_first(&mut bytes[start..]);
            bytes.resize(start + PARAMS_STRIDE as usize, 0);
            prepared.push(pipelines.prepare(self, dispatch, &params)?);
        }
        // Ordered before the submission that follows, and after all earlier ones.
        self.shared.queue.write_buffer(params.raw(), 0, &bytes);
        Ok(prepared)
    }

    /// Waits until at most `left` submissions are unfinished.
    async fn wait_until(&self, left: usize) -> Result<(), GpuError> {
        loop {
            let oldest = {
                let queue = self.lock_queue();
                match queue.in_flight.front() {
                    Some(oldest) if queue.in_flight.len() > left => oldest.clone(),
                    _ => return Ok(()),
                }
            };
            let waited_from = Instant::now();
            let done = self.wait(Some(oldest.index.clone()), oldest.done.clone()).await;
            self.lock_queue().finished(&oldest, waited_from, done.as_ref().ok().copied());
            done?;
        }
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.shared.pending)
    }

    pub(crate) fn lock_pipelines(&self) -> MutexGuard<'_, Pipelines> {
        lock(&self.shared.pipelines)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encode(
    encoder: &mut wgpu::CommandEncoder,
    pieces: &[Piece],
    prepared: &[Prepared],
    queries: Option<&wgpu::QuerySet>,
) {
    let mut next = 0;
    let mut rest = pieces;
    while let Some((piece, after)) = rest.split_first() {
        match piece.command {
            Command::Dispatch(_) => {
                let (run, after) = rest.split_at(launches_in_front(rest, queries.is_some()));
                let timestamp_writes = queries.map(|query_set| wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(2 * next),
                    end_of_pass_write_index: Some(2 * next + 1),
                });
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes,
                });
                for piece in run {
                    let ready = &prepared[next as usize];
                    let [x, y, z] = piece.workgroups();
                    pass.set_pipeline(&ready.pipeline);
                    pass.set_bind_group(0, &ready.bind_group, &[next * PARAMS_STRIDE as u32]);
                    pass.dispatch_workgroups(x, y, z);
                    next += 1;
                }
                rest = after;
                continue;
            }
            Command::Copy { from, to, to_offset, bytes } => {
                encoder.copy_buffer_to_buffer(
                    from.buffer.raw(),
                    from.offset,
                    to.buffer.raw(),
                    to.offset + to_offset,
                    Some(*bytes),
                );
            }
            Command::Clear(range) => {
                encoder.clear_buffer(range.buffer.raw(), range.offset, Some(range.bytes));
            }
            Command::Boundary => {}
        }
        rest = after;
    }
}

/// How many of the leading pieces go into one compute pass.
fn launches_in_front(pieces: &[Piece], one_each: bool) -> usize {
    let launches = pieces.iter().take_while(|p| matches!(p.command, Command::Dispatch(_))).count();
    if one_each { launches.min(1) } else { launches }
}
