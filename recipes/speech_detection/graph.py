"""Silero VAD's 16 kHz network as an ONNX graph, built node by node from its tensors.

The network is the one of https://github.com/snakers4/silero-vad (MIT), as ``silero_vad/tinygrad_model.py`` of
its package states it, with one difference: there it takes one chunk of 32 ms, here as many consecutive ones
as it is given. All but the LSTM runs for the chunks at once; for the LSTM they are the time steps.

The chunks are the height of one image, not a batch of images: ONNX Runtime then makes one large product of
each convolution, where it would make a small one for each chunk, and takes half the time on one thread. The
states of the LSTM are inputs and outputs, so a session holds nothing of a recording.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from diffusion_asr.audio.speech import CHUNK, CONTEXT, HIDDEN

Tensors = Mapping[str, NDArray[np.float32]]

_OPSET, _IR = 17, 8  # from 2022: every ONNX Runtime that Python 3.11 can install reads them
_FRAME, _HOP = 256, 128  # samples of the short-time Fourier transform
_BINS = _FRAME // 2 + 1
_STRIDES = {"conv1": 1, "conv2": 2, "conv3": 2, "conv4": 1}
_SHAPES = {
    "stft_conv.weight": (2 * _BINS, 1, _FRAME),
    "conv1.weight": (128, _BINS, 3),
    "conv2.weight": (64, 128, 3),
    "conv3.weight": (64, 64, 3),
    "conv4.weight": (HIDDEN, 64, 3),
    "lstm_cell.weight_ih": (4 * HIDDEN, HIDDEN),
    "lstm_cell.weight_hh": (4 * HIDDEN, HIDDEN),
    "lstm_cell.bias_ih": (4 * HIDDEN,),
    "lstm_cell.bias_hh": (4 * HIDDEN,),
    "final_conv.weight": (1, HIDDEN, 1),
    "final_conv.bias": (1,),
    **{f"conv{k}.bias": (width,) for k, width in ((1, 128), (2, 64), (3, 64), (4, HIDDEN))},
}


def build(tensors: Tensors) -> onnx.ModelProto:
    """The network with these weights; the same tensors give the same file.

    Inputs: ``chunks`` (N, 64 + 512) float32 at 16 kHz, each row 64 samples of context and 512 new ones;
    ``hidden`` and ``cell`` (1, 1, 128), zeros where a recording begins. Outputs: ``probabilities`` (N,) and
    the states after the last chunk, ``next_hidden`` and ``next_cell``.

    Args:
        tensors: As the package's ``silero_vad_16k.safetensors`` names them.

    Raises:
        ValueError: These are the tensors of another network.
    """
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != _SHAPES:
        raise ValueError(f"not the tensors of Silero VAD 6 at 16 kHz: {found}")
    nodes = [*_spectrum(), *_convolutions(), *_recurrence(), *_verdict()]
    state = (1, 1, HIDDEN)
    graph = helper.make_graph(
        nodes,
        "silero_vad_16k",
        [_value("chunks", ("N", CONTEXT + CHUNK)), _value("hidden", state), _value("cell", state)],
        [_value("probabilities", ("N",)), _value("next_hidden", state), _value("next_cell", state)],
        [numpy_helper.from_array(array, name) for name, array in _constants(tensors).items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR, producer_name="diffusion-asr")
    onnx.checker.check_model(model, full_check=True)
    return model


def _spectrum() -> list[onnx.NodeProto]:
    """Magnitudes (1, 129, N, 4) of the four frames of each chunk, mirrored at its end."""
    return [
        helper.make_node("Pad", ["chunks", "mirrored"], ["padded"], mode="reflect"),
        helper.make_node("Unsqueeze", ["padded", "axes 0 1"], ["wave"]),
        helper.make_node("Conv", ["wave", "stft_conv.weight"], ["spectrum"], strides=[1, _HOP]),
        helper.make_node("Split", ["spectrum", "halves"], ["real", "imaginary"], axis=1),
        helper.make_node("Mul", ["real", "real"], ["real²"]),
        helper.make_node("Mul", ["imaginary", "imaginary"], ["imaginary²"]),
        helper.make_node("Add", ["real²", "imaginary²"], ["power"]),
        helper.make_node("Sqrt", ["power"], ["magnitude"]),
    ]


def _convolutions() -> list[onnx.NodeProto]:
    """Features (128, N): the strides leave one frame of each chunk's four."""
    nodes, x = [], "magnitude"
    for name, stride in _STRIDES.items():
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        nodes += [
            helper.make_node("Conv", inputs, [name], pads=[0, 1, 0, 1], strides=[1, stride]),
            helper.make_node("Relu", [name], [f"{name} relu"]),
        ]
        x = f"{name} relu"
    return [*nodes, helper.make_node("Squeeze", [x, "axes 0 3"], ["features"])]


def _recurrence() -> list[onnx.NodeProto]:
    """What the LSTM makes of the chunks (N, 128), one after the other, and its states after the last."""
    inputs = ["steps", "lstm.W", "lstm.R", "lstm.B", "", "hidden", "cell"]  # no lengths: all steps are real
    return [
        helper.make_node("Transpose", ["features"], ["in order"]),
        helper.make_node("Unsqueeze", ["in order", "axis 1"], ["steps"]),  # a batch of one recording
        helper.make_node("LSTM", inputs, ["told", "next_hidden", "next_cell"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["told", "axes 1 2"], ["heard"]),
    ]


def _verdict() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Relu", ["heard"], ["heard relu"]),
        helper.make_node("Gemm", ["heard relu", "final_conv.weight", "final_conv.bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["sure"]),
        helper.make_node("Squeeze", ["sure", "axis 1"], ["probabilities"]),
    ]


def _constants(tensors: Tensors) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    """The weights as ONNX's operators want them, and the operators' arguments."""
    bias = np.concatenate([_gates(tensors["lstm_cell.bias_ih"]), _gates(tensors["lstm_cell.bias_hh"])])
    return {
        **{f"{name}.weight": tensors[f"{name}.weight"][:, :, None] for name in ("stft_conv", *_STRIDES)},
        **{f"{name}.bias": tensors[f"{name}.bias"] for name in (*_STRIDES, "final_conv")},
        "lstm.W": _gates(tensors["lstm_cell.weight_ih"])[None],
        "lstm.R": _gates(tensors["lstm_cell.weight_hh"])[None],
        "lstm.B": bias[None],
        "final_conv.weight": tensors["final_conv.weight"].reshape(HIDDEN, 1),  # one frame: a plain product
        "mirrored": np.array([0, 0, 0, CONTEXT], np.int64),
        "halves": np.array([_BINS, _BINS], np.int64),
        "axis 1": np.array([1], np.int64),
        "axes 0 1": np.array([0, 1], np.int64),
        "axes 0 3": np.array([0, 3], np.int64),
        "axes 1 2": np.array([1, 2], np.int64),
    }


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """From torch's order of gates (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    of_input, forget, cell, output = np.split(rows, 4)
    return np.concatenate([of_input, output, forget, cell])


def _value(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
