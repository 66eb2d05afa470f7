// Y[T, C] = X[T, C] · mask / (1 - probability)   (+ what Y holds)
//
// The mask is a hash of (seed, step, site, the token's counter, the column), so recomputation and
// backward reproduce it without storing it, and packing does not change it.

struct Params {
    tokens: u32,      // T
    columns: u32,     // C
    seed: u32,        // seed, step and site, mixed by the host
    threshold: u32,   // a hash below it is dropped: probability · 2³²
    scale: f32,       // 1 / (1 - probability)
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (T, C)
@group(0) @binding(2) var<storage, read> counters: array<u32>;         // (T)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (T, C)

override WG: u32 = 64u;
override ADD: u32 = 0u;    // 1: add to what Y holds

// Finalizer of MurmurHash3: every input bit flips every output bit with probability near one half.
fn scramble(value: u32) -> u32 {
    var h = value;
    h = (h ^ (h >> 16u)) * 0x85ebca6bu;
    h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
    return h ^ (h >> 16u);
}

@compute @workgroup_size(WG)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.tokens * p.columns {
        return;
    }
    let hash = scramble(scramble(counters[i / p.columns] ^ p.seed) + (i % p.columns) * 0x9e3779b9u);
    var value = select(x[i] * p.scale, 0.0, hash < p.threshold);
    if ADD == 1u {
        value += y[i];
    }
    y[i] = value;
}
