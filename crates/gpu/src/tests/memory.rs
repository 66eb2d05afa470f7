//! Memory is given back when the last user drops it.

use wasm_bindgen_test::wasm_bindgen_test;

use super::{add, numbers, open};
use crate::Commands;

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn dropped_buffers_are_freed_and_leave_no_bind_group() {
    let gpu = open().await;
    let kept = numbers(&gpu, 1 << 10);
    let mut first = None;
    for _ in 0..10 {
        let large = numbers(&gpu, 4 << 20);
        let mut commands = Commands::new();
        add(&mut commands, &kept, 1, 0, 1 << 10);
        add(&mut commands, &large, 1, 0, 1 << 20);
        gpu.run(&commands).await.unwrap();
        assert_eq!(gpu.read::<u32>(&large.buffer).await.unwrap(), vec![1; 4 << 20]);
        drop((commands, large));
        gpu.run(&Commands::new()).await.unwrap();
        gpu.flush().await.unwrap();
        let held = gpu.allocator_report().map(|report| report.allocated);
        let groups = gpu.lock_pipelines().bind_groups.len();
        let found = (gpu.account().in_use(), gpu.account().buffers(), groups, held);
        assert_eq!(found, *first.get_or_insert(found));
        assert!(found.0 < 1 << 20 && groups == 1, "{found:?}");
        assert!(held.is_none_or(|held| held < 4 << 20), "{held:?} bytes by wgpu's allocator");
    }
    assert_eq!(gpu.read::<u32>(&kept.buffer).await.unwrap(), vec![10; 1 << 10]);
}

/// Freed memory is not taken from work that is under way.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_buffer_dropped_right_after_submission_is_used_to_the_end() {
    let gpu = open().await;
    let target = numbers(&gpu, 1 << 16);
    for round in 1..20 {
        let source = numbers(&gpu, 1 << 16);
        gpu.write(&source, 0, &vec![round; 1 << 16]);
        let mut commands = Commands::new();
        add(&mut commands, &source, 1, 200, 1 << 26);
        commands.copy(&source, &target, 0, source.bytes());
        gpu.run(&commands).await.unwrap();
        drop((commands, source));
        let staging = gpu.start_read(target.clone());
        let numbers: Vec<u32> = gpu.finish_read(staging).await.unwrap();
        assert_eq!(numbers, vec![round + 1; 1 << 16]);
    }
}

/// Written to, never used, dropped: the write must not find its target gone.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_buffer_dropped_before_its_write_was_submitted_is_no_error() {
    let gpu = open().await;
    for _ in 0..3 {
        let unused = gpu.buffer_from("unused", &vec![1u32; 1 << 16]).unwrap();
        drop(unused);
        drop(gpu.start_read(numbers(&gpu, 64)));
        gpu.flush().await.unwrap();
    }
    assert_eq!(gpu.account().buffers(), 1, "only the parameters");
}
