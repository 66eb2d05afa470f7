//! A lost device is an error wherever somebody waits.

use wasm_bindgen_test::wasm_bindgen_test;

use super::{add, numbers, open};
use crate::{Commands, Gpu, GpuError};

#[track_caller]
fn assert_lost<T>(gpu: &Gpu, result: Result<T, GpuError>) {
    match result {
        Err(GpuError::Lost(reason)) => assert!(!reason.is_empty()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
    assert!(gpu.is_lost());
}

/// Destroys the device where only wgpu knows. The browser tells of that at a time of its own.
fn lose(gpu: &Gpu) {
    if cfg!(target_arch = "wasm32") {
        gpu.destroy();
    } else {
        gpu.shared.device.destroy();
    }
}

fn work(gpu: &Gpu) -> Commands {
    let mut commands = Commands::new();
    add(&mut commands, &numbers(gpu, 1 << 16), 1, 100, 1 << 20);
    commands
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn every_call_on_a_lost_device_is_an_error() {
    // The loss that only wgpu knows of, and the one that we ask for.
    for by_wgpu in [true, false] {
        let gpu = open().await;
        let (y, commands) = (numbers(&gpu, 64), work(&gpu));
        gpu.run(&commands).await.unwrap();
        gpu.finish().await.unwrap();
        if by_wgpu {
            lose(&gpu);
        } else {
            gpu.destroy();
        }
        // A run that does not wait may not know yet.
        let _ = gpu.run(&commands).await;
        assert_lost(&gpu, gpu.finish().await);
        assert_lost(&gpu, gpu.run(&commands).await);
        assert_lost(&gpu, gpu.flush().await);
        assert_lost(&gpu, gpu.read::<u32>(y.clone()).await);
        assert_lost(&gpu, gpu.time(&commands).await);
        assert_lost(&gpu, gpu.buffer("more", 64));
        gpu.write(&y, 0, &[1u32]);
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_readback_of_a_device_lost_just_before_is_an_error() {
    let gpu = open().await;
    let y = numbers(&gpu, 64);
    lose(&gpu);
    assert_lost(&gpu, gpu.read::<u32>(y).await);
    let gpu = open().await;
    let commands = work(&gpu);
    lose(&gpu);
    assert_lost(&gpu, gpu.time(&commands).await);
    let gpu = open().await;
    lose(&gpu);
    assert_lost(&gpu, gpu.flush().await);
}

/// The device goes while submissions run and a readback waits for them.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_device_lost_in_the_middle_of_work_ends_the_wait() {
    let gpu = open().await;
    let y = numbers(&gpu, 1 << 16);
    let mut commands = Commands::new();
    for _ in 0..4 {
        add(&mut commands, &y, 1, 2000, 1 << 30);
    }
    gpu.run(&commands).await.unwrap();
    let staging = gpu.start_read(y);
    lose(&gpu);
    // What was submitted before may still arrive; what comes after is an error.
    match gpu.finish_read::<u32>(staging).await {
        Ok(numbers) => assert_eq!(numbers, vec![4; 1 << 16]),
        Err(error) => assert!(matches!(error, GpuError::Lost(_) | GpuError::Invalid(_)), "{error}"),
    }
    let _ = gpu.run(&commands).await;
    assert_lost(&gpu, gpu.finish().await);
    assert_lost(&gpu, gpu.run(&commands).await);
}

/// A new device works where another was lost.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn another_device_can_be_opened_after_a_loss() {
    let gpu = open().await;
    gpu.destroy();
    assert_lost(&gpu, gpu.finish().await);
    let gpu = open().await;
    gpu.run(&work(&gpu)).await.unwrap();
    gpu.finish().await.unwrap();
}
