// Y[T, C] = X[T, C] · [hash(key, token_key[T], C) >= threshold] · scale   (+ what Y holds)
//
// Its own backward, with dY for X. The hash counts, it keeps no state: the same keys give the
// same mask, wherever the token lies in whatever batch. One workgroup a token.

struct Params {
    tokens: u32,      // T
    columns4: u32,    // C / 4
    key0: u32,        // from seed, step and place in the model
    key1: u32,
    threshold: u32,   // probability to drop, in units of 2^-32
    scale: f32,       // 1 / probability to keep
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> token_keys: array<u32>;      // (T)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;         // (T, C/4)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;   // (T, C/4)

override WG: u32 = 64u;    // invocations a token
override ADD: u32 = 0u;    // 1: add to what Y holds (gradients)

// The finalizer of MurmurHash3: every bit of the input moves every bit of the output.
fn mix(bits: vec4<u32>) -> vec4<u32> {
    var h = bits;
    h = (h ^ (h >> vec4<u32>(16u))) * 0x85ebca6bu;
    h = (h ^ (h >> vec4<u32>(13u))) * 0xc2b2ae35u;
    return h ^ (h >> vec4<u32>(16u));
}

@compute @workgroup_size(WG)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group.y * groups.x + group.x;
    if t >= p.tokens {
        return;
    }
    let row = mix(mix(vec4<u32>(token_keys[t] ^ p.key0)) + p.key1);
    for (var c = lane; c < p.columns4; c += WG) {
        let column = 4u * c + vec4<u32>(0u, 1u, 2u, 3u);
        let kept = mix(row + column * 0x9e3779b9u) >= vec4<u32>(p.threshold);
        let i = t * p.columns4 + c;
        var value = select(vec4<f32>(), p.scale * x[i], kept);
        if ADD == 1u {
            value += y[i];
        }
        y[i] = value;
    }
}
