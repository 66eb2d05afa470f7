"""The faults that planted_faults.py plants: exact replacements, and the tests that have to turn red."""

from dataclasses import dataclass


@dataclass
class Fault:
    name: str
    part: str  # forward or training
    title: str
    how: str  # one phrase
    edits: list[tuple[str, str, str]]  # file, old text (once in the file), new text
    tests: list[str]  # crate/binary::name


ATTENTION = "shaders/shared/attention.wgsl"
WINDOW = """max(info.x + 1u, p.window) - p.window);
        own_start = max(own_start, max(own_end, p.window) - p.window);"""


def window(width):
    return WINDOW.replace("p.window) - p.window", f"{width}) - ({width})")


# A wrong mask: that of the next step.
NEXT_STEP = "|d| dropout::Step { step: d.step + 1, ..d }"

FAULTS = [
    Fault(
        "window-plus-1",
        "forward",
        "window + 1",
        "`keys_seen` reaches one key further back",
        [(ATTENTION, WINDOW, window("p.window + 1u"))],
        [
            "hearth-kernels/lib::attention::tests::attention_tells_a_window_from_the_next",
            "hearth-kernels/lib::attention::tests::attention_with_windows_and_soft_caps",
            "hearth-kernels/lib::attention_backward_dq::tests::attention_backward_dq_of_awkward_shapes",
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
        ],
    ),
    Fault(
        "window-minus-1",
        "forward",
        "window − 1",
        "`keys_seen` reaches one key less far back",
        [(ATTENTION, WINDOW, window("p.window - 1u"))],
        [
            "hearth-kernels/lib::attention::tests::attention_tells_a_window_from_the_next",
            "hearth-kernels/lib::attention::tests::attention_with_windows_and_soft_caps",
            "hearth-kernels/lib::attention_backward_dq::tests::attention_backward_dq_of_awkward_shapes",
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
        ],
    ),
    Fault(
        "window-plus-1-in-the-model",
        "forward",
        "window + 1, in the model",
        "`attention_shape` passes one more than the configuration says",
        [("crates/gemma/src/forward.rs", "window.unwrap_or(0));", "window.map_or(0, |w| w + 1));")],
        [
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "window-minus-1-in-the-model",
        "forward",
        "window − 1, in the model",
        "`attention_shape` passes one less than the configuration says",
        [("crates/gemma/src/forward.rs", "window.unwrap_or(0));", "window.map_or(0, |w| w - 1));")],
        [
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "rope-bases-swapped",
        "forward",
        "RoPE bases swapped",
        "`Model::angles` gives local layers the global table, and the other way round",
        [
            (
                "crates/gemma/src/model.rs",
                "self.angles[of_layer.unwrap_or(0)]",
                "self.angles[self.angles.len() - 1 - of_layer.unwrap_or(0)]",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "erf-gelu",
        "forward",
        "GELU by erf instead of tanh",
        "matmul_geglu.wgsl computes the normal distribution (Abramowitz and Stegun 7.1.26, 1.5e-7)",
        [
            (
                "shaders/shared/matmul_geglu.wgsl",
                """    let twice_u = 1.5957691216057308 * x * (1.0 + 0.044715 * x * x);
    return 1.0 / (1.0 + exp(clamp(-twice_u, -80.0, 80.0)));
""",
                """    let z = 0.7071067811865476 * abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741
        + t * (-1.453152027 + t * 1.061405429))));
    return 0.5 + 0.5 * sign(x) * (1.0 - series * exp(-min(z * z, 80.0)));
""",
            )
        ],
        [
            "hearth-kernels/lib::matmul::tests::geglu_is_the_end_of_gate_and_up",
            "hearth-kernels/lib::matmul_backward::tests::geglu_backward_is_the_end_of_the_gradient_of_its_result",
            "hearth-gemma/suite::golden::gemma1_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
        ],
    ),
    Fault(
        "gain-doubled",
        "forward",
        "1 + w doubled",
        "`read_norm_gain` adds 1 to GGUF's norms too, which are gains already",
        [
            (
                "crates/formats/src/checkpoint/read.rs",
                "        if !self.norms_are_gains {\n",
                "        if !self.norms_are_gains || true {\n",
            )
        ],
        [
            "hearth-formats/public_fixtures::a_gguf_of_the_public_writer",
            "hearth-formats/lib::checkpoint::tests::hearths_own_files_are_read_back",
        ],
    ),
    Fault(
        "gain-without-1",
        "forward",
        "1 + w left out",
        "`read_norm_gain` gives safetensors' w as it is",
        [("crates/formats/src/checkpoint/read.rs", "*value += 1.0;", "*value += 0.0;")],
        [
            "hearth-formats/public_fixtures::safetensors_of_the_public_writer",
            "hearth-gemma/suite::golden::gemma1_forward_equals_the_reference",
        ],
    ),
    Fault(
        "query-scale",
        "forward",
        "wrong query scale",
        "head_dim^-½ instead of query_pre_attn_scalar^-½",
        [
            (
                "crates/gemma/src/forward.rs",
                "scale: config.attention_scale,",
                "scale: (config.head_dim as f32).powf(-0.5),",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma3_forward_equals_the_reference",
        ],
    ),
    Fault(
        "attention-cap-in-the-kernel",
        "forward",
        "attention's soft-cap left out, in the kernel",
        "`score` returns the scaled product",
        [
            (
                ATTENTION,
                "return p.softcap * tanh(clamp(s / p.softcap, vec4<f32>(-15.0), vec4<f32>(15.0)));",
                "return s;",
            )
        ],
        [
            "hearth-kernels/lib::attention::tests::attention_with_windows_and_soft_caps",
            "hearth-kernels/lib::attention::tests::attention_of_large_scores",
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
        ],
    ),
    Fault(
        "attention-cap-in-the-model",
        "forward",
        "attention's soft-cap left out, in the model",
        "`attention_shape` passes 0",
        [
            (
                "crates/gemma/src/forward.rs",
                "softcap: config.attention_softcap.unwrap_or(0.0),",
                "softcap: 0.0,",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "final-cap",
        "forward",
        "final soft-cap left out",
        "`Model::soft_cap` records nothing",
        [
            (
                "crates/gemma/src/forward.rs",
                "if let Some(softcap) = self.config.final_softcap {",
                "if let Some(softcap) = self.config.final_softcap.filter(|_| false) {",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma2_forward_equals_the_reference",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "q4-minimum",
        "forward",
        "q4 minimum ignored",
        "q4.wgsl leaves the minimum out",
        [("shaders/weights/q4.wgsl", "scale.x * q + scale.y", "scale.x * q")],
        [
            "hearth-kernels/lib::embed::tests::embed_reads_every_layout",
            "hearth-kernels/lib::matmul::tests::every_layout_in_every_kind_of_tile",
            "hearth-kernels/lib::matmul_backward::tests::backward_of_awkward_shapes_in_every_layout",
        ],
    ),
    Fault(
        "two-level-minimum",
        "forward",
        "minimum of Q4_K and Q5_K ignored",
        "scales.wgsl gives 0 for the minimum of two-level scales",
        [
            (
                "shaders/weights/scales.wgsl",
                "half(outer >> 16u) * f32(extractBits(word, shift + 8u, 8u))",
                "0.0",
            )
        ],
        [
            "hearth-kernels/lib::embed::tests::embed_reads_every_layout",
            "hearth-kernels/lib::matmul::tests::every_layout_in_every_kind_of_tile",
            "hearth-kernels/lib::matmul_backward::tests::backward_of_awkward_shapes_in_every_layout",
        ],
    ),
    Fault(
        "sub-scales-rounded",
        "forward",
        "sub-scales rounded to f16",
        "the product d · sc goes through f16",
        [
            (
                "shaders/weights/scales.wgsl",
                "let scale = half(outer) * f32(extractBits(word, shift, 8u));",
                "let exact = half(outer) * f32(extractBits(word, shift, 8u));\n"
                "    let scale = unpack2x16float(pack2x16float(vec2<f32>(exact)))[0];",
            )
        ],
        [
            "hearth-kernels/lib::embed::tests::embed_reads_every_layout",
            "hearth-kernels/lib::matmul::tests::every_layout_in_every_kind_of_tile",
            "hearth-kernels/lib::matmul_backward::tests::backward_of_awkward_shapes_in_every_layout",
        ],
    ),
    Fault(
        "split-upload",
        "forward",
        "split binding off by one row: upload",
        "`write_rows` fills a later slab from one row too early",
        [
            (
                "crates/kernels/src/matrix.rs",
                "((from - first_row) as usize,",
                "((from - first_row).saturating_sub(1) as usize,",
            )
        ],
        [
            "hearth-kernels/lib::matrix::tests::rows_written_in_pieces_land_in_the_slabs_that_own_them",
        ],
    ),
    Fault(
        "split-embedding",
        "forward",
        "split binding off by one row: embedding",
        "later slabs say that they begin a row later",
        [
            (
                "crates/kernels/src/embed.rs",
                "            first_row: slab.first_row,\n            rows: slab.rows,\n            scale",
                "            first_row: slab.first_row + u32::from(slab.first_row > 0),\n"
                "            rows: slab.rows,\n            scale",
            )
        ],
        [
            "hearth-kernels/lib::embed::tests::embed_leaves_rows_of_other_slabs_to_them",
        ],
    ),
    Fault(
        "split-matmul",
        "forward",
        "split binding off by one row: matmul",
        "later slabs write one column too far left",
        [
            (
                "crates/kernels/src/matmul.rs",
                "slab.first_row.wrapping_sub(op.rows.start)",
                "slab.first_row.wrapping_sub(op.rows.start + u32::from(slab.first_row > 0))",
            )
        ],
        [
            "hearth-kernels/lib::matmul::tests::a_range_of_rows_crosses_slabs",
            "hearth-kernels/lib::matmul::tests::slabs_and_parts_give_the_same_bits",
        ],
    ),
    Fault(
        "split-rows",
        "forward",
        "split binding off by one row: range",
        "`slabs_in` leaves out the first row of every later slab",
        [
            (
                "crates/kernels/src/matrix.rs",
                "let from = start.max(slab.first_row);",
                "let from = start.max(slab.first_row + u32::from(slab.first_row > 0));",
            )
        ],
        [
            "hearth-kernels/lib::matmul::tests::a_range_of_rows_crosses_slabs",
            "hearth-kernels/lib::matmul::tests::slabs_and_parts_give_the_same_bits",
            "hearth-kernels/lib::matmul_backward::tests::backward_over_slabs_adds_up",
        ],
    ),
    Fault(
        "workgroup-by-tokens",
        "forward",
        "another batch compiles",
        "the direct matmul's workgroup depends on the number of tokens",
        [
            (
                "crates/kernels/src/matmul.rs",
                "let (wn, wt) = direct_workgroup(across);",
                "let (wn, wt) = direct_workgroup(across);\n            let wt = wt.min(down.next_power_of_two());",
            )
        ],
        ["hearth-gemma/suite::device::a_new_batch_compiles_nothing_unless_it_is_very_small"],
    ),
    Fault(
        "prefix-gradient",
        "training",
        "prefix gradient from one row only",
        "prefix tokens are said to be seen until the first row ends",
        [
            (
                "crates/gemma/src/batch.rs",
                "packed.push(token, position, 0, 0, total, u32::MAX);",
                "packed.push(token, position, 0, 0, first.tokens.len().min(total), u32::MAX);",
            )
        ],
        [
            "hearth-gemma/lib::batch::tests::rows_share_the_prefix_once",
            "hearth-gemma/suite::packed::a_packed_batch_equals_its_rows_under_every_loss",
            "hearth-gemma/suite::packed::prefixes_longer_than_the_window_none_at_all_and_many_rows",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "backward-window-plus-1",
        "training",
        "window + 1, backward only",
        "the gradient of keys and values asks one token more",
        [
            (
                "shaders/attention_backward_dkv.wgsl",
                "positions < vec4<u32>(p.window)",
                "positions < vec4<u32>(p.window + 1u)",
            )
        ],
        [
            "hearth-kernels/lib::attention_backward_dkv::tests::attention_backward_dkv_of_awkward_shapes",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "backward-window-minus-1",
        "training",
        "window − 1, backward only",
        "the gradient of keys and values asks one token less",
        [
            (
                "shaders/attention_backward_dkv.wgsl",
                "positions < vec4<u32>(p.window)",
                "positions < vec4<u32>(p.window - 1u)",
            )
        ],
        [
            "hearth-kernels/lib::attention_backward_dkv::tests::attention_backward_dkv_of_awkward_shapes",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "part-of-a-sum",
        "training",
        "a part of a sum forgotten",
        "the norm at the end of a block adds all parts but one",
        [
            (
                "shaders/residual_norm.wgsl",
                "for (var part = 0u; part < PARTS - 1u; part++)",
                "for (var part = 1u; part < PARTS - 1u; part++)",
            )
        ],
        [
            "hearth-kernels/lib::residual_norm::tests::residual_norm_of_awkward_shapes",
            "hearth-gemma/suite::packed::the_variants_of_a_gpu_give_the_gradients_of_those_of_a_rasterizer",
        ],
    ),
    Fault(
        "part-of-a-prefix-key",
        "training",
        "a part of a prefix key's gradient forgotten",
        "the gradient of norm and rotation adds all parts but one",
        [
            (
                "shaders/qk_norm_rope.wgsl",
                "for (var part = 0u; part < p.parts - 1u; part++)",
                "for (var part = 1u; part < p.parts - 1u; part++)",
            )
        ],
        [
            "hearth-kernels/lib::qk_norm_rope::tests::gradients_in_parts_are_added_before_the_norm",
        ],
    ),
    Fault(
        "attention-cap-gradient",
        "training",
        "gradient of attention's soft-cap left out",
        "`d_score` is the scale alone",
        [(ATTENTION, "return p.scale * (1.0 - t * t);", "return vec4<f32>(p.scale);")],
        [
            "hearth-kernels/lib::attention_backward_dkv::tests::attention_backward_dkv_of_awkward_shapes",
            "hearth-kernels/lib::attention_backward_dq::tests::attention_backward_dq_of_awkward_shapes",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "final-cap-gradient",
        "training",
        "gradient of the final soft-cap left out",
        "cross_entropy_backward.wgsl does not multiply by tanh's derivative",
        [("shaders/cross_entropy_backward.wgsl", "d *= 1.0 - bent * bent;", "d *= 1.0;")],
        [
            "hearth-kernels/lib::cross_entropy_backward::tests::the_gradient_goes_through_the_soft_cap",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "lora-scale-in-the-kernel",
        "training",
        "LoRA scale dropped, in the kernel",
        "the matmul adds Z · Bᵀ unscaled",
        [("shaders/shared/matmul.wgsl", "return p.lora_scale * low;", "return low;")],
        [
            "hearth-kernels/lib::matmul::tests::every_tile_on_awkward_shapes",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "lora-scale-forward",
        "training",
        "LoRA scale dropped: forward",
        "`project` passes 1",
        [
            (
                "crates/gemma/src/forward.rs",
                "scale: lora.layout.config.scale(),",
                "scale: 1.0,",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma1_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::training::gradients_under_dropout_agree_with_finite_differences",
        ],
    ),
    Fault(
        "lora-scale-b",
        "training",
        "LoRA scale dropped: dB",
        "`d_factors` passes 1 where it computes dB",
        [
            (
                "crates/gemma/src/backward.rs",
                "scale: lora.layout.config.scale(),",
                "scale: 1.0,",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma1_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::training::gradients_under_dropout_agree_with_finite_differences",
        ],
    ),
    Fault(
        "lora-scale-z",
        "training",
        "LoRA scale dropped: dZ, and so dA",
        "`d_low_rank` passes 1",
        [
            (
                "crates/gemma/src/backward.rs",
                "z_first, tokens, rank, scale };",
                "z_first, tokens, rank, scale: 1.0 };",
            )
        ],
        [
            "hearth-gemma/suite::golden::gemma1_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma2_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
            "hearth-gemma/suite::training::gradients_under_dropout_agree_with_finite_differences",
        ],
    ),
    Fault(
        "branch-target",
        "training",
        "target at the branch taken from the wrong row",
        "`pack` merges the predictions at the branch into the first row's, as inside the prefix",
        [
            (
                "crates/gemma/src/targets.rs",
                "target.position + 1 < prefix;",
                "target.position < prefix;",
            ),
            (
                "crates/gemma/src/targets.rs",
                "all.indices[*i] == index && all.tokens[*i] == target.token;",
                "all.indices[*i] == index;",
            ),
        ],
        [
            "hearth-gemma/lib::targets::tests::prefix_targets_count_once_a_row_and_the_branch_has_one_a_row",
            "hearth-gemma/suite::packed::a_packed_batch_equals_its_rows_under_every_loss",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "bias-correction",
        "training",
        "Adam's bias correction off",
        "adamw.wgsl uses the moments as they are",
        [
            (
                "shaders/adamw.wgsl",
                "(m_new / (1.0 - s.beta1_power)) / (sqrt(v_new / (1.0 - s.beta2_power)) + p.eps)",
                "m_new / (sqrt(v_new) + p.eps)",
            )
        ],
        [
            "hearth-kernels/lib::adamw::tests::three_updates_equal_the_textbook",
            "hearth-gemma/suite::golden::gemma3_gradients_and_adam_steps_equal_the_reference",
        ],
    ),
    Fault(
        "clip-in-the-kernel",
        "training",
        "clip factor ignored, in the kernel",
        "adamw.wgsl takes the gradient as it is",
        [("shaders/adamw.wgsl", "let g = s.clip * grad[i];", "let g = grad[i];")],
        [
            "hearth-kernels/lib::adamw::tests::three_updates_equal_the_textbook",
            "hearth-gemma/suite::training::gradients_are_clipped_to_the_norm_asked_for",
        ],
    ),
    Fault(
        "clip-in-the-trainer",
        "training",
        "clip factor ignored, in the trainer",
        "the optimizer passes 0, no clipping, as the largest norm",
        [
            (
                "crates/gemma/src/train/optimizer.rs",
                "GradNorm { parts, step, max_norm, beta1, beta2 }",
                "GradNorm { parts, step, max_norm: 0.0 * max_norm, beta1, beta2 }",
            )
        ],
        [
            "hearth-gemma/suite::training::gradients_are_clipped_to_the_norm_asked_for",
        ],
    ),
    Fault(
        "cache-of-another-adapter",
        "training",
        "kept keys not refused on adapter switch",
        "`KvCache::check` does not ask which adapter filled it",
        [("crates/gemma/src/cache.rs", "if self.len > 0 && ", "if self.len > self.capacity && ")],
        [
            "hearth-gemma/suite::training::a_cache_of_one_adapter_is_refused_to_another",
            "hearth-gemma/suite::generation::generation_refuses_what_does_not_fit",
        ],
    ),
    Fault(
        "kept-prefix",
        "training",
        "kept prefix not dropped on adapter switch",
        "`Scorer::fill` keeps whatever is there",
        [
            (
                "crates/gemma/src/cache.rs",
                "if self.len > 0 && ",
                "if self.len > self.capacity && ",
            ),
            (
                "crates/gemma/src/score/scorer.rs",
                "if self.filled_by == Some(id) {",
                "if self.filled_by.is_some() {",
            ),
        ],
        [
            "hearth-gemma/suite::generation::a_kept_prefix_changes_nothing_on_default_limits",
            "hearth-gemma/suite::generation::a_kept_prefix_changes_nothing_on_full_limits",
            "hearth-gemma/suite::generation::a_trained_adapter_is_computed_again_after_forget",
        ],
    ),
    Fault(
        "dropout-recomputed",
        "training",
        "dropout not replayed: recomputation",
        "the second forward pass draws the next step's mask",
        [
            (
                "crates/gemma/src/backward.rs",
                "Pass { lora: Some(self.lora), dropout: self.dropout }",
                f"Pass {{ lora: Some(self.lora), dropout: self.dropout.map({NEXT_STEP}) }}",
            )
        ],
        [
            "hearth-gemma/suite::training::recomputed_activations_give_the_bits_of_kept_ones_with_dropout_too",
        ],
    ),
    Fault(
        "dropout-inputs",
        "training",
        "dropout not replayed: dA",
        "the inputs of dA are thinned by the next step's mask",
        [
            (
                "crates/gemma/src/backward.rs",
                "self.drop_inputs(c, ws, pass.dropout, ",
                f"self.drop_inputs(c, ws, pass.dropout.map({NEXT_STEP}), ",
            )
        ],
        [
            "hearth-gemma/suite::training::gradients_under_dropout_agree_with_finite_differences",
        ],
    ),
    Fault(
        "dropout-outputs",
        "training",
        "dropout not replayed: dX",
        "what comes back through A passes through the next step's mask",
        [
            (
                "crates/gemma/src/backward.rs",
                "self.d_drop_inputs(c, ws, pass.dropout, ",
                f"self.d_drop_inputs(c, ws, pass.dropout.map({NEXT_STEP}), ",
            )
        ],
        [
            "hearth-gemma/suite::training::gradients_under_dropout_agree_with_finite_differences",
        ],
    ),
]
