// The low 16 bits as an f16, widened to f32 exactly. unpack2x16float may flush subnormals to zero,
// and scales of small weights are subnormal; a bit shift through an f32 subnormal could be flushed
// too. So the exponent of normal numbers is rebiased (15 to 127), and subnormals are counted in
// units of 2^-24. Infinities and NaN do not occur: the host rejects them.
fn half(bits: u32) -> f32 {
    let magnitude = bits & 0x7fffu;
    let normal = bitcast<f32>((magnitude << 13u) + 0x38000000u);
    let small = f32(magnitude) * 5.9604644775390625e-8;
    let value = select(normal, small, magnitude < 0x400u);
    return select(value, -value, (bits & 0x8000u) != 0u);
}
