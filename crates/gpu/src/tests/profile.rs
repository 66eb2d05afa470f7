//! Times of everything that runs while somebody looks.

use wasm_bindgen_test::wasm_bindgen_test;

use super::{add, numbers, open};
use crate::{Commands, GpuError};

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn every_launch_is_timed_and_still_runs() {
    let gpu = open().await;
    let y = numbers(&gpu, 1000);
    let run = async |rounds: u32| {
        let mut commands = Commands::new();
        add(&mut commands, &y, 1, rounds, 7);
        add(&mut commands, &y, 2, 0, 8);
        gpu.run(&commands).await
    };
    run(0).await.unwrap();
    let work = async || {
        run(1000).await?;
        run(0).await
    };
    let timings = gpu.profiled(work).await.unwrap();
    let seen: Vec<_> = timings.iter().map(|t| (t.label, t.cost)).collect();
    assert_eq!(seen, [("add", 7), ("add", 8), ("add", 7), ("add", 8)]);
    assert!(timings.iter().all(|t| t.seconds >= 0.0));
    run(0).await.unwrap();
    let found: Vec<u32> = gpu.read(y.clone()).await.unwrap();
    assert!(found.iter().all(|v| *v == 12), "{:?}", &found[..4]);
    // what fails ends the profile, too
    let failed = gpu.profiled(async || Err::<(), _>(GpuError::Lost("gone".to_owned()))).await;
    assert!(failed.is_err() && gpu.profiled(async || run(0).await).await.unwrap().len() == 2);
}
