"""A network as ONNX, checked against what the network itself answers."""

import io
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.capture import evaluating, every_module_called
from cytolens.errors import MissingExtra, ModelError

_TOLERANCE = 1e-4  # of the largest logit; float32 in another order of sums stays below 1e-6
INPUT, OUTPUT = "crops", "logits"


def onnx_bytes(module: nn.Module, crops: NDArray[np.float32]) -> bytes:
    """The module as an ONNX file: ``crops`` (n, C, H, W), float32, any n, to ``logits`` (n, K).

    It is run on ``crops``, of which there should be three or more, and by onnxruntime. Raises
    MissingExtra, and ModelError where the network cannot be written, or answers differently then.
    """
    try:
        onnxruntime: Any = import_module("onnxruntime")
        import_module("onnxscript")  # PyTorch's exporter needs it
    except ImportError:
        raise MissingExtra("a network as ONNX", "onnx") from None
    alone = deepcopy(module).cpu()
    given = torch.from_numpy(np.ascontiguousarray(crops, dtype=np.float32))
    with evaluating(alone), torch.no_grad(), every_module_called():  # ONNX has no fused ones
        own = alone(given).float().numpy()
        program = _exported(alone, given[:2])
    content = io.BytesIO()
    program.save(content, external_data=False)
    data = content.getvalue()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    answers = np.asarray(session.run(None, {INPUT: given.numpy()})[0])
    worst = float(np.abs(answers - own).max())
    if not worst <= _TOLERANCE * max(float(np.abs(own).max()), 1.0):
        raise ModelError(
            f"the network answers differently as ONNX (by {worst:.2g}); it is not written"
        )
    return data


def _exported(module: nn.Module, crops: torch.Tensor) -> Any:
    try:
        with _quiet():
            return torch.onnx.export(
                module,
                (crops,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                verbose=False,
            )
    except Exception as error:
        cause = error.__cause__ or error  # the error itself is advice to developers
        reason = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ModelError(f"the network cannot be written as ONNX: {reason[0]}") from error


@contextmanager
def _quiet() -> Generator[None]:
    """The exporter tells developers what it does, on the screen and in the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    nothing = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(nothing), redirect_stderr(nothing):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
