//! A launch that is cut gives what the whole one gives.

use wasm_bindgen_test::wasm_bindgen_test;

use super::{add, numbers, open};
use crate::Commands;

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_launch_in_parts_does_everything_once() {
    let gpu = open().await;
    // 1, 64, and more workgroups than one dimension holds.
    for count in [1, 64 * 64 + 3, 64 * 70_000 + 1] {
        let y = numbers(&gpu, count);
        let mut commands = Commands::new();
        // As much work as many submissions hold, by what is said of it.
        add(&mut commands, &y, 3, 0, 1 << 33);
        add(&mut commands, &y, 4, 0, 1);
        gpu.run(&commands).await.unwrap();
        let found: Vec<u32> = gpu.read(y).await.unwrap();
        let wrong = found.iter().position(|n| *n != 7);
        assert_eq!(wrong, None, "{count} numbers: {:?}", wrong.map(|at| found[at]));
    }
}
