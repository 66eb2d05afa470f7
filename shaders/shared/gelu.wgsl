// The tanh form of GELU: x/2 * (1 + tanh(u)) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).

// sigmoid(2u). Unlike 1 + tanh(u), it stays accurate where x is negative. The exponent is clamped
// because compilers may assume that infinity does not exist.
fn gelu_sigmoid(x: vec4<f32>) -> vec4<f32> {
    let twice_u = 1.5957691216057308 * x * (1.0 + 0.044715 * x * x);
    return 1.0 / (1.0 + exp(clamp(-twice_u, vec4<f32>(-80.0), vec4<f32>(80.0))));
}
