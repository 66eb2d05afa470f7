//! Compares the browser with a native run on the same driver: `fixtures/same_driver.safetensors`
//! was made natively on SwiftShader, the driver of the tests' browser, with
//!
//! ```sh
//! VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json \
//!     cargo run -p hearth-gemma --example same_driver -- crates/gemma/tests/fixtures/same_driver.safetensors
//! ```
//!
//! In the browser, the run has to stay within the budgets for one driver. Natively, on whatever
//! driver the tests have, it has to stay within the same budgets: for the tiny model, they leave
//! enough room for rounding.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use hearth_gemma::verify::{Limit, Row, Tensors};
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn twenty_steps_in_the_browser_are_those_of_the_native_run() {
    let native = Tensors::new(include_bytes!("../fixtures/same_driver.safetensors")).unwrap();
    let found = super::same_driver::run().await;
    assert_eq!(found.losses.len(), super::same_driver::STEPS as usize);
    let want = |name: &str| native.f32(name).unwrap();
    // The factors change the losses by far more than the budget: a wrong step would be detected.
    let losses = want("losses");
    assert!((losses[0] / losses[19] - 1.0).abs() > 0.01, "{losses:?}");
    let mut rows = vec![
        Row::compare("first loss", &[found.loss], &want("loss"), Limit::Relative(1e-5)),
        Row::compare("first gradient", &found.gradient, &want("gradient"), Limit::Relative(1e-4)),
    ];
    for (step, (got, want)) in found.losses.iter().zip(&losses).enumerate() {
        let name = format!("loss of step {step}");
        rows.push(Row::compare(name, &[*got], &[*want], Limit::Relative(1e-3)));
    }
    println!("{}: {rows:#?}", found.adapter);
    let over: Vec<_> = rows.iter().filter(|row| !row.ok).collect();
    assert!(over.is_empty(), "{}: {over:#?}", found.adapter);
}
