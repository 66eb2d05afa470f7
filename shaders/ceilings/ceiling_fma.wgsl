// How many multiply-adds per second the device can do, of f32 or f16, whichever Number is: 32 independent chains per
// invocation, nothing is read.
// Prepend: alias Number = f32; or f16, which has to be enabled.

struct Params {
    rounds: u32,   // of 128 multiply-adds per invocation
    factor: f32,
    summand: f32,
    start: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;   // one per invocation

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn ceiling_fma(@builtin(global_invocation_id) id: vec3<u32>) {
    let m = vec4<Number>(Number(p.factor));
    let c = vec4<Number>(Number(p.summand));
    var a = vec4<Number>(Number(p.start)) + vec4<Number>(0.0, 1.0, 2.0, 3.0);
    var b = a + 4.0;
    var d = a + 8.0;
    var e = a + 12.0;
    var f = a + 16.0;
    var g = a + 20.0;
    var h = a + 24.0;
    var i = a + 28.0;
    for (var r = 0u; r < p.rounds; r++) {
        for (var u = 0u; u < 4u; u++) {
            a = fma(a, m, c);
            b = fma(b, m, c);
            d = fma(d, m, c);
            e = fma(e, m, c);
            f = fma(f, m, c);
            g = fma(g, m, c);
            h = fma(h, m, c);
            i = fma(i, m, c);
        }
    }
    y[id.x] = vec4<f32>(a + b + d + e + f + g + h + i);
}
