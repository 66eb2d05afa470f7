// Running statistics of softmax over chunks of columns, for rows of logits L[M, N]:
// stats[m] = (max, Σ exp(L - max), L[m, class of m], column of the max)
//
// One workgroup a row, one dispatch a chunk, the chunks in order: the first starts the
// statistics, each later one joins its own to them. Needs shared/target.wgsl in front.

struct Params {
    entries: u32,   // M
    columns: u32,   // of this chunk
    stride: u32,    // numbers from one row of the chunk to the next
    first: u32,     // column of the whole softmax where the chunk starts
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;             // (M, stride)
@group(0) @binding(2) var<storage, read> targets: array<Target>;         // (M)
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;  // (M)

override WG: u32 = 64u;    // invocations a row, a power of two

var<workgroup> numbers: array<f32, WG>;
var<workgroup> places: array<u32, WG>;

@compute @workgroup_size(WG)
fn cross_entropy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.entries {
        return;
    }
    let base = row * p.stride;

    // The largest logit and the first column that has it.
    var top = -3.4e38;
    var place = 0xffffffffu;
    for (var c = lane; c < p.columns; c += WG) {
        if logits[base + c] > top {
            top = logits[base + c];
            place = p.first + c;
        }
    }
    numbers[lane] = top;
    places[lane] = place;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            let other = numbers[lane + step];
            let other_place = places[lane + step];
            if other > numbers[lane] || (other == numbers[lane] && other_place < places[lane]) {
                numbers[lane] = other;
                places[lane] = other_place;
            }
        }
        workgroupBarrier();
    }
    var before = vec4<f32>(-3.4e38, 0.0, 0.0, 0.0);
    if p.first > 0u {
        before = stats[row];
    }
    // A column number is exact in f32 up to 2^24.
    place = select(u32(before.w), places[0], numbers[0] > before.x);
    top = max(before.x, numbers[0]);
    workgroupBarrier();

    var sum = 0.0;
    for (var c = lane; c < p.columns; c += WG) {
        sum += exp(logits[base + c] - top);
    }
    numbers[lane] = sum;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        if lane < step {
            numbers[lane] += numbers[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        var wanted = before.z;
        let c = targets[row].class - p.first;   // wraps around where the chunk comes after it
        if c < p.columns {
            wanted = logits[base + c];
        }
        let all = before.y * exp(before.x - top) + numbers[0];
        stats[row] = vec4<f32>(top, all, wanted, f32(place));
    }
}
