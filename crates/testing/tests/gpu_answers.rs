//! Proves that a GPU works where the tests run: if this fails, look at the driver or the browser first.

use wasm_bindgen_test::wasm_bindgen_test;

const SQUARE: &str = "
@group(0) @binding(0) var<storage, read_write> values: array<f32>; // [n]

@compute @workgroup_size(64)
fn square(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < arrayLength(&values)) {
        values[id.x] *= values[id.x];
    }
}";

/// A compute shader runs, and its result comes back without blocking.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_shader_squares_numbers() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions::default())
        .await
        .expect("no WebGPU adapter");
    let (device, queue) =
        adapter.request_device(&wgpu::DeviceDescriptor::default()).await.expect("no device");

    let input: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let bytes = size_of_val(input.as_slice()) as u64;
    let buffer = |usage| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    };
    let values = buffer(
        wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
    );
    let readback = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    queue.write_buffer(&values, 0, bytemuck::cast_slice(&input));

    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("square"),
        layout: None,
        module: &device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("square"),
            source: wgpu::ShaderSource::Wgsl(SQUARE.into()),
        }),
        entry_point: Some("square"),
        compilation_options: Default::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: values.as_entire_binding() }],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(1000u32.div_ceil(64), 1, 1);
    drop(pass);
    encoder.copy_buffer_to_buffer(&values, 0, &readback, 0, bytes);
    queue.submit([encoder.finish()]);

    let (sender, receiver) = futures_channel::oneshot::channel();
    readback.map_async(wgpu::MapMode::Read, .., |result| {
        sender.send(result).expect("the test waits for the result");
    });
    #[cfg(not(target_arch = "wasm32"))]
    device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
    receiver.await.expect("the callback runs").expect("the buffer maps");

    let mapped = readback.get_mapped_range(..).expect("the buffer is mapped");
    let output: Vec<f32> = bytemuck::cast_slice(&mapped).to_vec();
    let expected: Vec<f32> = input.iter().map(|x| x * x).collect();
    assert_eq!(output, expected);
}

/// In the browser the tests run where the engine will: in a dedicated worker, without a window.
#[cfg(target_arch = "wasm32")]
#[wasm_bindgen_test]
fn the_browser_runs_tests_in_a_worker() {
    use wasm_bindgen_test::__rt::wasm_bindgen::JsValue;
    let global = js_sys::global();
    let has = |name: &str| js_sys::Reflect::has(&global, &JsValue::from_str(name)).unwrap_or(false);
    assert!(has("WorkerGlobalScope") && !has("window"));
}
