// Scales of quantized weights: value = scale * q + minimum, one pair per GROUP weights along K.
@group(0) @binding(3) var<storage, read> scales: array<u32>;        // (N, words per row)

// Whether groups have scales.
const SCALED = true;

override GROUP: u32 = 32u;        // weights that share a scale
override SCALE_FORM: u32 = 0u;    // 0: f16, 1: f32, 2: f16 per 256 weights times signed bytes per group
override MINIMUM: u32 = 0u;       // 1: groups have a minimum

// Scale and minimum of a group. K = 4 * k4.
fn group_scale(row: u32, group: u32, k4: u32) -> vec2<f32> {
    let groups = 4u * k4 / GROUP;
    if SCALE_FORM == 0u {
        if MINIMUM == 1u {
            let word = scales[row * groups + group];
            return vec2<f32>(half(word), half(word >> 16u));
        }
        // Two groups per word; rows start at word boundaries.
        let word = scales[row * ((groups + 1u) / 2u) + group / 2u];
        return vec2<f32>(half(word >> (16u * (group & 1u))), 0.0);
    }
    if SCALE_FORM == 1u {
        let at = (row * groups + group) * (1u + MINIMUM);
        let scale = bitcast<f32>(scales[at]);
        if MINIMUM == 1u {
            return vec2<f32>(scale, bitcast<f32>(scales[at + 1u]));
        }
        return vec2<f32>(scale, 0.0);
    }
    // A block of 256 weights: one word of two f16, then a byte (or two) per group.
    let per_block = 256u / GROUP;
    let block_words = 1u + (per_block * (1u + MINIMUM) + 3u) / 4u;
    let block = (row * (k4 / 64u) + group / per_block) * block_words;
    let outer = scales[block];
    let byte = (group % per_block) * (1u + MINIMUM);
    let word = i32(scales[block + 1u + byte / 4u]);
    let shift = 8u * (byte & 3u);
    let scale = half(outer) * f32(extractBits(word, shift, 8u));
    if MINIMUM == 1u {
        return vec2<f32>(scale, half(outer >> 16u) * f32(extractBits(word, shift + 8u, 8u)));
    }
    return vec2<f32>(scale, 0.0);
}
