//! What the page is told while a model comes along.

use web_sys::AbortController;
use web_time::Instant;

use super::{
    Stop,
    fetch::Observer,
    post,
    running::{Control, Running},
    speed::Speed,
};
use crate::{protocol::FromLoader, storage::pause};

/// Seconds between two messages of progress.
const OFTEN: f64 = 0.2;
/// Milliseconds between two looks at what the page asks for, while waiting.
const LOOK: i32 = 200;

/// Tells the page how a model comes along, and the fetching whether it is still wanted.
pub struct Progress {
    running: Running,
    id: u64,
    key: String,
    /// The file at hand.
    pub file: String,
    /// Bytes of the files before this one.
    pub before: u64,
    /// Bits of a weight, where a smaller file is made.
    pub bits: Option<u32>,
    /// Bytes of all files, where every size is known.
    total: Option<u64>,
    files: usize,
    /// The line broke, and the next try is waited for.
    waiting: bool,
    start: Instant,
    last: f64,
    speed: Speed,
}

impl Progress {
    /// For the request `id`, about a model of files of these sizes.
    pub fn new(running: Running, id: u64, key: &str, sizes: &[Option<u64>]) -> Self {
        Self {
            running,
            id,
            key: key.to_owned(),
            file: String::new(),
            before: 0,
            bits: None,
            total: sizes.iter().copied().sum(),
            files: sizes.len(),
            waiting: false,
            start: Instant::now(),
            last: 0.0,
            speed: Speed::default(),
        }
    }

    /// Waits, listening for a pause or a cancel.
    pub async fn wait(&mut self, seconds: u32, done: u64) -> Result<(), Stop> {
        self.waiting = true;
        for _ in 0..seconds * 1000 / LOOK as u32 {
            pause(LOOK).await;
            self.see(done, None)?;
        }
        self.waiting = false;
        Ok(())
    }
}

impl Observer for Progress {
    fn see(&mut self, done: u64, total: Option<u64>) -> Result<(), Stop> {
        let (now, done) = (self.start.elapsed().as_secs_f64(), self.before + done);
        if now - self.last >= OFTEN || self.last == 0.0 {
            self.last = now.max(f64::MIN_POSITIVE);
            self.speed.note(now, done);
            let total = self.total.or(total.filter(|_| self.files == 1)).unwrap_or(0);
            let (key, seconds_left) = (self.key.clone(), self.speed.seconds_left(total));
            let message = match self.bits {
                Some(bits) => FromLoader::Shrinking { key, bits, done, total, seconds_left },
                None => FromLoader::Fetching {
                    key,
                    file: self.file.clone(),
                    done,
                    total,
                    bytes_per_second: self.speed.bytes_per_second(),
                    seconds_left,
                    waiting: self.waiting,
                },
            };
            post(self.id, &message, &[]);
        }
        self.check()
    }

    fn warn(&mut self, what: String) {
        post(self.id, &FromLoader::Warning { what }, &[]);
    }

    fn connecting(&mut self, abort: &AbortController) -> Result<(), Stop> {
        self.running.connects(&self.key, abort);
        self.check()
    }

    fn check(&self) -> Result<(), Stop> {
        match self.running.control_of(&self.key) {
            Control::Pause => Err(Stop::Paused),
            Control::Cancel => Err(Stop::Cancelled),
            Control::Continue => Ok(()),
        }
    }
}
