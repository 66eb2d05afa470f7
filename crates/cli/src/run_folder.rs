//! The folder that a training run writes. Nothing in it is overwritten without `--force` or `--resume`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hearth_classifier::fit::SnapshotStore;

/// A run's folder.
pub struct RunFolder {
    path: PathBuf,
}

/// Files of a run; if one of them exists, the folder is in use.
const KEPT: [&str; 7] = [
    CLASSIFIER,
    "metrics.json",
    "report.html",
    "predictions.csv",
    "snapshot-0",
    "snapshot-1",
    "adapter",
];
/// The classifier's file.
pub const CLASSIFIER: &str = "classifier.hearth";

impl RunFolder {
    /// Creates the folder, or uses an existing one if it is free, if `resume` continues the run in it, or if `force`
    /// allows overwriting.
    pub fn open(path: &Path, resume: bool, force: bool) -> Result<Self> {
        let used = KEPT.iter().find(|name| path.join(name).exists());
        if let Some(name) = used.filter(|_| !resume && !force) {
            bail!(
                "{}: {name} exists already; continue with --resume, overwrite with --force, or choose another --out",
                path.display()
            );
        }
        std::fs::create_dir_all(path)
            .with_context(|| format!("{}: making the folder", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// The path of a file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.file(name);
        let at = || format!("{}: writing", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(at)?;
        }
        write_whole(&path, bytes).with_context(at)
    }

    /// The snapshots.
    pub fn snapshots(&self) -> FileStore {
        FileStore { folder: self.path.clone() }
    }
}

/// Two snapshot files in a folder.
pub struct FileStore {
    folder: PathBuf,
}

impl FileStore {
    fn path(&self, slot: usize) -> PathBuf {
        self.folder.join(format!("snapshot-{slot}"))
    }
}

impl SnapshotStore for FileStore {
    fn save(&mut self, slot: usize, bytes: &[u8]) -> Result<(), String> {
        let path = self.path(slot);
        let saved = match bytes {
            [] if !path.exists() => Ok(()),
            [] => std::fs::remove_file(&path),
            _ => write_whole(&path, bytes),
        };
        saved.map_err(|e| format!("{}: {e}", path.display()))
    }

    fn load(&mut self, slot: usize) -> Result<Vec<u8>, String> {
        let path = self.path(slot);
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|e| format!("{}: {e}", path.display())),
        }
    }
}

/// Written under another name, then renamed: a reader sees the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = beside(path, PART);
    let mut file = std::fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

/// Ends the name of a file that is still being written.
pub const PART: &str = ".part";

/// The path with an ending more.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Gives a long file its name once all of it is written, so that whoever sees it sees the whole; of one that failed
/// nothing stays.
pub fn keep_whole<T>(part: &Path, path: &Path, written: Result<T>) -> Result<T> {
    if written.is_err() {
        let _ = std::fs::remove_file(part);
    }
    let written = written?;
    std::fs::rename(part, path).with_context(|| format!("{}: renaming to it", path.display()))?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("hearth-run-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_folder_in_use_is_not_overwritten() {
        let path = folder("used");
        let run = RunFolder::open(&path, false, false).unwrap();
        run.write("adapter/x", b"1").unwrap();
        let error = RunFolder::open(&path, false, false).err().unwrap().to_string();
        assert!(error.contains("adapter exists already") && error.contains("--force"), "{error}");
        assert!(
            RunFolder::open(&path, true, false).is_ok()
                && RunFolder::open(&path, false, true).is_ok()
        );
    }

    #[test]
    fn slots_come_back_and_can_be_emptied() {
        let path = folder("slots");
        let mut store = RunFolder::open(&path, false, false).unwrap().snapshots();
        assert_eq!(store.load(0).unwrap(), b"");
        store.save(1, b"one").unwrap();
        store.save(1, b"two").unwrap();
        assert_eq!(store.load(1).unwrap(), b"two");
        store.save(1, b"").unwrap();
        store.save(0, b"").unwrap();
        assert_eq!(store.load(1).unwrap(), b"");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }
}
