"""The interface of optimum-intel's OVSanaSprintPipeline around our networks: its names, its lengths, its time input.

Our networks keep what specializing gave them; a few operators before and behind translate. With s the flow time that the
pipeline feeds, x_s its `hidden_states` and x0 what our transformer gives, the pipeline wants the velocity:

    v = (x_s - x0) / s      since x0 = x_s - s v
    step = the row of the plan's time that is nearest to s
    ids = input_ids behind the instruction that the text encoder holds
    latents = latent_sample * scaling_factor, by which the pipeline has divided

The graphs are fixed: to the plan's times, to its guidance, to the instruction. Where the pipeline feeds another one the result is
NaN, a black picture with numpy's warning, and never a picture that is slightly wrong.

Inside, the operators that hold our own inputs and outputs are named after them (`OPERATOR_PREFIX`), so that our runtime
cuts the translation off again (runtimes/openvino_ir/inner_graph.py). Source: optimum-intel 2.2.0
optimum/intel/openvino/modeling_diffusion.py and diffusers 0.39 pipelines/sana/pipeline_sana_sprint.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sprint_export.errors import RefusedError
from sprint_export.libraries import require
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import LAYOUT_KEY, OPERATOR_PREFIX
from sprint_export.students.sana_sprint.configs import SCHEDULER

PIPELINE, MODULE = "OVSanaSprintPipeline", "optimum.intel.openvino.modeling_diffusion"
LAYOUT = "optimum"
ROLES = ("text_encoder", "transformer", "vae_decoder")  # that the pipeline opens
TOLERANCE = 0.005  # of time and guidance; bfloat16 rounds them by up to 0.004, the closest times of a schedule are 0.05 apart


@dataclass(frozen=True)
class PipelineInterface:
    """What the translation needs to know of a student.

    `times` are flow times, one a row of the plan; `guidance` is what the pipeline feeds, its scale times the transformer's, None
    where the network has no such input; `prefix_ids` stand before the ids that the text encoder reads, `tokens` are both
    together; `scaling_factor` is the decoder's.
    """

    times: tuple[float, ...]
    guidance: float | None
    prefix_ids: tuple[int, ...]
    tokens: int
    scaling_factor: float
    tokenizer: str

    def wrap(self, model: Any, role: str) -> Any:
        """An openvino.Model of one of our networks -> the same network with the pipeline's inputs and outputs.

        `model` is changed: its own inputs are taken out.
        """
        around = {"text_encoder": self._wrap_text, "transformer": self._wrap_transformer, "vae_decoder": self._wrap_decoder}
        wrapped = around[role](model, require("openvino.opset13", "openvino"))
        wrapped.set_friendly_name(role)
        wrapped.set_rt_info(LAYOUT, LAYOUT_KEY.split("."))
        return wrapped

    def index(self) -> Mapping[str, Any]:
        """What `model_index.json` says."""
        return {
            "_class_name": PIPELINE,
            "scheduler": ["diffusers", SCHEDULER["_class_name"]],
            "text_encoder": [MODULE, "OVModelTextEncoder"],
            "tokenizer": ["transformers", self.tokenizer],
            "transformer": [MODULE, "OVModelTransformer"],
            "vae": [MODULE, "OVModelVae"],
        }

    def _wrap_text(self, model: Any, ops: Any) -> Any:
        held = len(self.prefix_ids)
        given = _take_input(ops, "input_ids", np.int64, [1, self.tokens])
        ids = _hold_shape(ops, given)
        _replace(model, "input_ids", _slice(ops, ids, held, self.tokens) if held else ids)
        rows = _find_output(model, "prompt_embeds")
        if not held:
            return _close([given], rows, "last_hidden_state", ops)
        same = ops.equal(_slice(ops, ids, 0, held), ops.constant(np.array([self.prefix_ids], np.int64)))
        is_held = ops.reduce_logical_and(same, np.array([1]), True)
        found = ops.add(rows, ops.unsqueeze(_zero_or_nan(ops, is_held), np.array(2)))
        return _close([given], found, "last_hidden_state", ops)

    def _wrap_transformer(self, model: Any, ops: Any) -> Any:
        names = {"latents": "hidden_states", "prompt_embeds": "encoder_hidden_states", "prompt_mask": "encoder_attention_mask"}
        given = {own: _take_like(ops, model, own, name) for own, name in names.items()}
        scalars = [_take_input(ops, name, np.float32, [1]) for name in ("timestep", "guidance")]
        time, guidance = (_hold_shape(ops, node) for node in scalars)
        held = {own: _hold_shape(ops, node) for own, node in given.items()}
        for own, node in held.items():
            _replace(model, own, node)
        times = ops.constant(np.array(self.times, np.float32))
        distances = ops.absolute(ops.subtract(time, times))
        if len(self.times) > 1:
            nearest = ops.topk(distances, np.array(1), 0, "min", "value", "i64").output(1)
            _replace(model, "step", ops.reshape(nearest, np.array([1]), False))
        is_known = ops.less_equal(ops.reduce_min(distances, np.array([0]), True), ops.constant(np.float32(TOLERANCE)))
        if self.guidance is not None:
            off = ops.absolute(ops.subtract(guidance, ops.constant(np.float32(self.guidance))))
            is_known = ops.logical_and(is_known, ops.less_equal(off, ops.constant(np.float32(TOLERANCE))))
        velocity = ops.divide(ops.subtract(held["latents"], _find_output(model, "denoised")), time)
        found = ops.add(velocity, _zero_or_nan(ops, is_known))
        return _close([*given.values(), *scalars], found, "out_sample", ops)

    def _wrap_decoder(self, model: Any, ops: Any) -> Any:
        sample = _take_like(ops, model, "latents", "latent_sample")
        latents = _hold_shape(ops, sample)
        _replace(model, "latents", ops.multiply(latents, ops.constant(np.float32(self.scaling_factor))))
        total = ops.reduce_sum(latents, np.array([0, 1, 2, 3]), True)  # NaN where one is; an 8-bit decoder rounds it to a number
        found = ops.add(_find_output(model, "image"), _zero_or_nan(ops, ops.logical_not(ops.is_nan(total))))
        return _close([sample], found, "sample", ops)


def read_interface(student: Student) -> PipelineInterface:
    """What a specialized student's networks want around them.

    Raises:
        RefusedError: it has networks that the pipeline does not open.
    """
    assert student.plan is not None
    extra = sorted(set(student.components) - set(ROLES))
    if extra:
        raise RefusedError(
            f"--layout {LAYOUT}: {PIPELINE} opens {', '.join(ROLES)} and {student.source} has {', '.join(extra)} too; leave "
            "--controlnet and --image-to-image out, or --layout"
        )
    transformer, decoder = student.configs["transformer"], student.configs["vae_decoder"]
    has_guidance = bool(transformer.get("guidance_embeds"))
    guidance = student.plan.guidance * float(transformer["guidance_embeds_scale"]) if has_guidance else None
    kind = student.configs.get("tokenizer", {}).get("class", "AutoTokenizer")
    prompt = student.prompt
    return PipelineInterface(
        student.plan.times, guidance, prompt.prefix_ids, prompt.tokens, float(decoder["scaling_factor"]), str(kind)
    )


def _take_input(ops: Any, name: str, dtype: Any, shape: Any) -> Any:
    """A new input, by name."""
    node = ops.parameter(shape, dtype, name=name)
    node.output(0).set_names({name})
    return node


def _take_like(ops: Any, model: Any, own: str, name: str) -> Any:
    """A new input of the type and shape of one of the network's own."""
    value = model.input(own)
    return _take_input(ops, name, value.get_element_type(), value.get_partial_shape())


def _hold_shape(ops: Any, given: Any) -> Any:
    """An input in the shape that it has now, where that is fixed.

    The pipeline makes all shapes free; free ones have other kernels or, for an INT8 transformer in OpenVINO 2026.4, none.
    """
    shape = given.get_output_partial_shape(0)
    return ops.reshape(given, np.array([size.get_length() for size in shape]), False) if shape.is_static else given


def _replace(model: Any, own: str, node: Any) -> None:
    """Feed what reads one of the network's own inputs from a node, which is named after it."""
    model.input(own).get_node().output(0).replace(node.output(0))
    node.set_friendly_name(OPERATOR_PREFIX + own)


def _find_output(model: Any, own: str) -> Any:
    """What the network writes to one of its own outputs; its operator is named after it."""
    value = model.output(own).get_node().input_value(0)
    value.get_node().set_friendly_name(OPERATOR_PREFIX + own)
    return value


def _slice(ops: Any, ids: Any, start: int, stop: int) -> Any:
    """Columns of ids [1, tokens]."""
    return ops.slice(ids, np.array([start]), np.array([stop]), np.array([1]), np.array([1]))


def _zero_or_nan(ops: Any, condition: Any) -> Any:
    return ops.select(condition, ops.constant(np.float32(0)), ops.constant(np.float32(np.nan)))


def _close(inputs: list[Any], found: Any, name: str, ops: Any) -> Any:
    """The model between these inputs and a value, which takes the name."""
    value = found.output(0) if hasattr(found, "output") else found
    value.set_names({name})
    return require("openvino", "openvino").Model([ops.result(value)], inputs)
