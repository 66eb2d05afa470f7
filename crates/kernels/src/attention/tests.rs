use hearth_gpu::Gpu;

use super::*;
use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, relative, wide};
use crate::variants::Variants;
use crate::{
    attention_backward_dkv::{self, AttentionBackwardDkv, RowParts},
    attention_backward_dq::{self, AttentionBackwardDq},
};

/// A packed tree of a prefix and rows; `prefix` keys are cached, or the first tokens of the batch.
pub(crate) fn tree(prefix: u32, rows: &[u32], prefix_is_cached: bool) -> Vec<TokenMeta> {
    let total = prefix + rows.iter().sum::<u32>();
    let mut meta = Vec::new();
    if !prefix_is_cached {
        meta.extend((0..prefix).map(|position| TokenMeta {
            position,
            prefix_end: 0,
            own_start: 0,
            seen_until: total,
        }));
    }
    let mut own_start = prefix;
    for row in rows {
        let seen_until = own_start + row;
        meta.extend((0..*row).map(|i| TokenMeta {
            position: prefix + i,
            prefix_end: prefix,
            own_start,
            seen_until,
        }));
        own_start = seen_until;
    }
    meta
}

/// One attention layer with random operands.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) meta: Vec<TokenMeta>,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) d_o: Vec<f32>,
    /// The largest number of operations per submission.
    pub(crate) operations: u64,
    /// Whether the variant for CPU rasterizers runs.
    pub(crate) software: bool,
}

impl Case {
    /// `dims` is H, G, D.
    pub(crate) fn new(meta: Vec<TokenMeta>, cached: u32, dims: [u32; 3]) -> Self {
        let [heads, kv_heads, head_dim] = dims;
        let tokens = meta.len() as u32;
        let mut numbers = Numbers::new(tokens + head_dim);
        let q = numbers.normal((tokens * heads * head_dim) as usize, 1.0);
        let [k, v] = [(); 2]
            .map(|()| numbers.normal(((cached + tokens) * kv_heads * head_dim) as usize, 1.0));
        let d_o = numbers.normal(q.len(), 1.0);
        let (window, softcap, scale) = (0, 0.0, 1.5 / (head_dim as f32).sqrt());
        let pairs = visible_pairs(&meta, cached, 0);
        let shape =
            Shape { tokens, heads, kv_heads, head_dim, cached, window, scale, softcap, pairs };
        Self { shape, meta, q, k, v, d_o, operations: u64::MAX, software: false }
    }

    pub(crate) fn window(mut self, window: u32) -> Self {
        self.shape.window = window;
        self
    }

    pub(crate) fn softcap(mut self, softcap: f32) -> Self {
        self.shape.softcap = softcap;
        self
    }

    fn variants(&self, gpu: &Gpu) -> Variants {
        Variants { software: self.software, ..Variants::of(gpu) }
    }

    /// o and lse.
    pub(crate) async fn run(&self, gpu: &Gpu) -> (Vec<f32>, Vec<f32>) {
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|x| gpu.buffer_from("test", x).unwrap().all());
        let tokens_meta = gpu.buffer_from("test", &self.meta).unwrap().all();
        let o = gpu.buffer("test", q.bytes()).unwrap().all();
        let rows =
            gpu.buffer("test", 2 * q.bytes() / u64::from(self.shape.head_dim)).unwrap().all();
        let mut commands = Commands::new();
        let op = Attention {
            shape: self.shape,
            q: &q,
            k: &k,
            v: &v,
            tokens_meta: &tokens_meta,
            o: &o,
            rows: &rows,
        };
        record(&mut commands, &self.variants(gpu), &op);
        gpu.run_in_parts(&commands, self.operations).await.unwrap();
        let rows: Vec<[f32; 2]> = gpu.read(rows).await.unwrap();
        (gpu.read(o).await.unwrap(), rows.iter().map(|row| row[0]).collect())
    }

    /// d_q, d_k and d_v.
    pub(crate) async fn gradients(&self, gpu: &Gpu) -> [Vec<f32>; 3] {
        let (o, lse) = self.run(gpu).await;
        let rows: Vec<f32> = lse.iter().flat_map(|lse| [*lse, f32::NAN]).collect();
        let [q, k, v, d_o, o, rows] = [&self.q, &self.k, &self.v, &self.d_o, &o, &rows]
            .map(|x| gpu.buffer_from("test", x).unwrap().all());
        let tokens_meta = gpu.buffer_from("test", &self.meta).unwrap().all();
        let empty = |bytes| gpu.buffer("test", bytes).unwrap().all();
        let all = q.bytes() + k.bytes() + v.bytes();
        let most_rows = attention_backward_dkv::MOST_ROWS as u64;
        let [d_q, d_k, d_qkv] = [q.bytes(), most_rows * k.bytes(), all].map(empty);
        let (shape, tokens_meta) = (self.shape, &tokens_meta);
        let (q, k, v, d_o, o, rows) = (&q, &k, &v, &d_o, &o, &rows);
        let variants = self.variants(gpu);
        let parts = RowParts::of(&variants, &shape);
        let mut c = Commands::new();
        attention_backward_dq::record(
            &mut c,
            &variants,
            &AttentionBackwardDq { shape, q, k, v, tokens_meta, d_o, o, rows, d_q: &d_q },
        );
        attention_backward_dkv::record(
            &mut c,
            &variants,
            &AttentionBackwardDkv {
                shape,
                q,
                k,
                v,
                tokens_meta,
                d_o,
                rows,
                d_k: &d_k,
                parts,
                d_qkv: &d_qkv,
            },
        );
        gpu.run_in_parts(&c, self.operations).await.unwrap();
        let Shape { heads, kv_heads, head_dim, .. } = shape;
        let d_qkv: Vec<f32> = gpu.read(d_qkv).await.unwrap();
        let rows = d_qkv.chunks_exact(((heads + 2 * kv_heads) * head_dim) as usize);
        let d_v = rows.flat_map(|row| &row[((heads + kv_heads) * head_dim) as usize..]).copied();
        let (mut d_k, mut d_v): (Vec<f32>, Vec<f32>) =
            (gpu.read(d_k).await.unwrap(), d_v.collect());
        let width = (kv_heads * head_dim) as usize;
        let others = d_k.split_off(shape.tokens as usize * width);
        parts.add(&others, width, [&mut d_k, &mut d_v]);
        [gpu.read(d_q).await.unwrap(), d_k, d_v]
    }

    /// q, k, v and d_o in f64.
    pub(crate) fn wide(&self) -> [Vec<f64>; 4] {
        [&self.q, &self.k, &self.v, &self.d_o].map(|x| wide(x))
    }

    pub(crate) fn reference(&self) -> (Vec<f64>, Vec<f64>) {
        reference(&self.shape, &self.meta, &wide(&self.q), &wide(&self.k), &wide(&self.v))
    }

    /// The case with only the prefix and one row, where `row` is the range of that row's tokens in
    /// the batch.
    pub(crate) fn alone(&self, prefix: u32, row: std::ops::Range<u32>) -> Self {
        let mut one = self.clone();
        one.meta = tree(prefix, &[row.end - row.start], false);
        one.shape.tokens = one.meta.len() as u32;
        let Shape { heads, kv_heads, head_dim, .. } = self.shape;
        let pick = |x: &[f32], width: u32| {
            let part =
                |r: std::ops::Range<u32>| &x[(r.start * width) as usize..(r.end * width) as usize];
            [part(0..prefix), part(row.clone())].concat()
        };
        one.q = pick(&self.q, heads * head_dim);
        one.d_o = pick(&self.d_o, heads * head_dim);
        one.k = pick(&self.k, kv_heads * head_dim);
        one.v = pick(&self.v, kv_heads * head_dim);
        one
    }
}

/// Small enough for finite differences: a shared key head, a window smaller than the prefix, a cap.
pub(crate) fn small_cases() -> Vec<Case> {
    let case = |prefix, rows: &[u32], dims| Case::new(tree(prefix, rows, false), 0, dims);
    vec![
        case(3, &[2, 1], [2, 1, 4]),
        case(3, &[1, 3], [4, 2, 4]).window(2),
        case(0, &[3, 1], [2, 2, 4]).softcap(1.5),
    ]
}

/// Gradients of what a kernel may encounter: two tokens, 33 rows of one token, no prefix, no rows,
/// windows smaller than the prefix, a cap, several key heads, more than a tile of everything, rows of the prefix in two
/// to four parts, 7 keys and 5.
pub(crate) fn gradient_cases() -> Vec<Case> {
    let case = |prefix, rows: &[u32], dims| Case::new(tree(prefix, rows, false), 0, dims);
    vec![
        case(0, &[2], [1, 1, 4]),
        case(0, &[3, 1, 130], [3, 1, 8]),
        case(70, &[1; 33], [8, 1, 64]),
        case(9, &[], [6, 2, 20]),
        case(21, &[40, 7, 1], [4, 1, 256]),
        case(20, &[9, 1, 30], [4, 2, 16]).window(6),
        case(20, &[9, 1, 30], [2, 2, 16]).window(24).softcap(2.0),
        case(5, &[40, 90, 3, 77], [4, 1, 16]),
        case(6, &[60, 1, 70, 61], [4, 2, 12]).window(9),
        Case { software: true, ..case(21, &[40, 7, 1], [4, 1, 256]) },
        Case { software: true, ..case(0, &[3, 1, 130], [3, 1, 8]) },
    ]
}

async fn check(case: Case) {
    let (o, lse) = case.reference();
    for software in [false, true] {
        let case = Case { software, ..case.clone() };
        for_each_profile(async |gpu| {
            let (got_o, got_lse) = case.run(&gpu).await;
            assert_close(&got_o, &o, 1e-5);
            assert_close(&got_lse, &lse, 1e-5);
        })
        .await;
    }
}

gpu_test! {
    async fn attention_of_awkward_shapes() {
        // One token; a tile and one more; 4, 2 and 1 heads per workgroup; widths down to one vec4.
        for (prefix, rows, dims) in [
            (0, vec![1], [1, 1, 4]),
            (0, vec![65], [4, 1, 256]),
            (5, vec![1, 7, 20], [4, 2, 12]),
            (0, vec![3, 1, 130], [3, 1, 8]),
            (70, vec![1; 33], [8, 1, 64]),
            (9, vec![], [6, 2, 20]),
        ] {
            check(Case::new(tree(prefix, &rows, false), 0, dims)).await;
        }
    }

    async fn attention_behind_cached_keys() {
        for dims in [[4, 1, 32], [4, 2, 256]] {
            check(Case::new(tree(21, &[5, 1, 12], true), 21, dims)).await;
        }
        // Generation: one token after many, as one segment.
        let last = TokenMeta { position: 700, prefix_end: 0, own_start: 0, seen_until: 701 };
        check(Case::new(vec![last], 700, [4, 1, 256])).await;
        check(Case::new(vec![last], 700, [4, 1, 64]).window(512)).await;
    }

    async fn attention_with_windows_and_soft_caps() {
        // Windows smaller than a row, than the prefix, and just one key; with and without a cache.
        for window in [1, 2, 6, 24, 70] {
            check(Case::new(tree(20, &[9, 1, 30], false), 0, [4, 1, 16]).window(window)).await;
            check(Case::new(tree(20, &[9, 1, 30], true), 20, [2, 2, 16]).window(window).softcap(2.0)).await;
        }
    }

    async fn attention_of_large_scores() {
        let mut case = Case::new(tree(3, &[40, 2], false), 0, [4, 1, 16]);
        case.shape.scale = 100.0;
        check(case.clone()).await;
        // Scores so negative that every weight would underflow if the maximum started at 0.
        case.q.fill(-8.0);
        case.k.iter_mut().for_each(|k| *k = 2.0 + k.abs());
        check(case.clone()).await;
        check(case.softcap(50.0)).await;
    }

    async fn attention_of_more_workgroups_than_one_dimension_holds() {
        let (tokens, heads) = (16_500, 4);
        let meta = tree(0, &vec![1; tokens as usize], false);
        let case = Case { software: true, ..Case::new(meta, 0, [heads, heads, 4]) };
        // A row of one token attends only to itself.
        for_each_profile(async |gpu| assert_close(&case.run(&gpu).await.0, &wide(&case.v), 1e-6)).await;
    }

    async fn attention_tells_a_window_from_the_next() {
        let case = Case::new(tree(12, &[9, 4], false), 0, [4, 1, 16]).window(6);
        for_each_profile(async |gpu| {
            let (got, _) = case.run(&gpu).await;
            for wrong in [5, 7] {
                assert!(relative(&got, &case.clone().window(wrong).reference().0) > 0.05);
            }
        })
        .await;
    }

    async fn a_packed_tree_equals_its_rows_one_by_one() {
        for (prefix, window) in [(21, 0), (21, 10), (0, 0)] {
            let rows = [8, 1, 40, 3];
            let case = Case::new(tree(prefix, &rows, false), 0, [4, 1, 32]).window(window);
            let width = (case.shape.heads * case.shape.head_dim) as usize;
            for_each_profile(async |gpu| {
                let (packed, _) = case.run(&gpu).await;
                let mut start = prefix;
                for row in rows {
                    let (alone, _) = case.alone(prefix, start..start + row).run(&gpu).await;
                    let want = wide(&alone[prefix as usize * width..]);
                    let got = &packed[start as usize * width..][..want.len()];
                    assert_close(got, &want, 1e-6);
                    start += row;
                }
            })
            .await;
        }
    }

    async fn a_cached_prefix_equals_a_packed_one() {
        let (prefix, rows) = (21, [5, 30]);
        let packed = Case::new(tree(prefix, &rows, false), 0, [4, 1, 32]).window(16);
        let width = (packed.shape.heads * packed.shape.head_dim) as usize;
        let mut cached = packed.clone();
        cached.meta = tree(prefix, &rows, true);
        cached.shape.tokens = cached.meta.len() as u32;
        cached.shape.cached = prefix;
        cached.q.drain(..prefix as usize * width);
        // A cache has free space after the last key.
        cached.k.extend([1e9; 64]);
        cached.v.extend([1e9; 64]);
        for_each_profile(async |gpu| {
            let (all, _) = packed.run(&gpu).await;
            assert_close(&cached.run(&gpu).await.0, &wide(&all[prefix as usize * width..]), 1e-6);
        })
        .await;
    }

    async fn attention_repeats_to_the_bit() {
        let case = Case::new(tree(21, &[33, 90], false), 0, [4, 1, 64]).softcap(30.0);
        for_each_profile(async |gpu| assert_eq!(case.run(&gpu).await, case.run(&gpu).await)).await;
    }
}

#[test]
fn pairs_are_counted_as_they_are_seen() {
    for (cached, window) in [(0, 0), (0, 4), (0, 1), (11, 0), (11, 5)] {
        let meta = tree(11, &[3, 1, 9], cached > 0);
        let case = Case::new(meta, cached, [1, 1, 4]).window(window);
        let tokens = case.meta.len();
        let seen = |keys: usize| {
            (0..tokens)
                .flat_map(|t| (0..keys).map(move |j| (t, j)))
                .filter(|&(t, j)| case.shape.sees(&case.meta, t, j))
                .count() as u64
        };
        let prefix_keys = if cached == 0 { 11 } else { 0 };
        let keys = tokens + cached as usize;
        let seen_by = |t: usize| (0..keys).filter(|&j| case.shape.sees(&case.meta, t, j)).count();
        let want = Pairs {
            all: seen(keys),
            prefix_keys,
            longest: (0..tokens).map(seen_by).max().unwrap() as u32,
            longest_row: 9,
            of_prefix: seen(prefix_keys as usize),
        };
        assert_eq!(visible_pairs(&case.meta, cached, window), want);
    }
}
