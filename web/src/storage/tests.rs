use hearth_classifier::fit::SnapshotStore;
use wasm_bindgen_test::wasm_bindgen_test;

use super::{Folder, StorageError, read_blob, run_store::RunStore, space};
use crate::wire::blob;

async fn folder(name: &str) -> Folder {
    let root = Folder::root().await.unwrap().folder("tests").await.unwrap();
    root.remove(name).await.unwrap();
    root.folder(name).await.unwrap()
}

#[wasm_bindgen_test]
async fn files_are_written_read_and_deleted() {
    let folder = folder("files").await;
    // longer than what is copied at once
    let bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    folder.write("b.bin", &blob(&bytes, "").unwrap()).await.unwrap();
    folder.write("a.bin", &blob(b"abc", "").unwrap()).await.unwrap();
    assert_eq!(folder.names().await.unwrap(), ["a.bin", "b.bin"]);
    assert_eq!(folder.read("b.bin").await.unwrap().unwrap(), bytes);
    // shorter than before: nothing of the old file is left behind it
    folder.write("b.bin", &blob(b"xy", "").unwrap()).await.unwrap();
    assert_eq!(folder.read("b.bin").await.unwrap().unwrap(), b"xy");
    let file = folder.file("a.bin").await.unwrap().unwrap();
    assert_eq!(read_blob(&file, 1, 9).await.unwrap().to_vec(), b"bc");
    folder.remove("a.bin").await.unwrap();
    folder.remove("a.bin").await.unwrap();
    assert_eq!(folder.read("a.bin").await.unwrap(), None);
    assert!(space().await.available);
}

#[wasm_bindgen_test]
async fn an_open_file_is_busy_for_others() {
    let folder = folder("busy").await;
    let held = folder.open("held").await.unwrap();
    let refused = folder.open("held").await.unwrap_err();
    assert_eq!(refused, StorageError::Busy("held".to_owned()));
    drop(held);
    folder.open("held").await.unwrap();
}

#[wasm_bindgen_test]
async fn a_torn_small_file_leaves_its_copy() {
    let folder = folder("torn").await;
    folder.write_safe("record", b"whole").await.unwrap();
    let torn = folder.open("record").await.unwrap();
    torn.truncate(2).unwrap();
    drop(torn);
    let whole = |bytes: &[u8]| (bytes.len() == 5).then(|| bytes.to_vec());
    assert_eq!(folder.read_safe("record", whole).await.unwrap().unwrap(), b"whole");
    assert_eq!(folder.read_safe("nothing", whole).await.unwrap(), None);
}

#[wasm_bindgen_test]
async fn slots_outlive_their_shelf_and_lock_out_others() {
    let folder = folder("shelf").await;
    let store = RunStore::Kept(folder);
    {
        let mut slots = store.slots("run").await.unwrap();
        assert_eq!(slots.load(0).unwrap(), b"");
        slots.save(0, b"first, and longer").unwrap();
        slots.save(1, b"second").unwrap();
        slots.save(0, b"third").unwrap();
        assert!(matches!(store.slots("run").await, Err(StorageError::Busy(_))));
    }
    let mut slots = store.slots("run").await.unwrap();
    assert_eq!(
        (slots.load(0).unwrap(), slots.load(1).unwrap()),
        (b"third".to_vec(), b"second".to_vec())
    );
    assert!(slots.warning().borrow().is_none());
    drop(slots);
    assert_eq!(store.keys().await.unwrap(), ["run"]);
    store.remove("run").await.unwrap();
    assert!(store.keys().await.unwrap().is_empty());
}

#[wasm_bindgen_test]
async fn a_shelf_in_memory_does_the_same() {
    let store = RunStore::in_memory();
    store.put_safe("run", "record", b"7").await.unwrap();
    store.slots("run").await.unwrap().save(1, b"kept").unwrap();
    assert_eq!(store.slots("run").await.unwrap().load(1).unwrap(), b"kept");
    let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u32>().ok();
    assert_eq!(store.get_safe("run", "record", parse).await.unwrap(), Some(7));
    assert_eq!(store.keys().await.unwrap(), ["run"]);
    store.remove("run").await.unwrap();
    assert!(store.slots("run").await.unwrap().load(1).unwrap().is_empty());
}

#[wasm_bindgen_test]
fn exceptions_are_told_apart() {
    let of = |name: &str| {
        let error = js_sys::Error::new("no");
        error.set_name(name);
        StorageError::of("f", &error)
    };
    assert_eq!(of("QuotaExceededError"), StorageError::Full("f".to_owned()));
    assert_eq!(of("NoModificationAllowedError"), StorageError::Busy("f".to_owned()));
    assert!(matches!(of("SecurityError"), StorageError::Blocked(_)));
    assert!(matches!(of("TypeError"), StorageError::Other { .. }));
}
