"""A classifier: a network together with what its inputs and outputs mean."""

from copy import deepcopy
from dataclasses import field, replace
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.capture import device_of, evaluating, on_device
from cytolens.activations.forward import cells_at_once, fast_layout, laid_out
from cytolens.classifier.networks import seeded
from cytolens.errors import ModelError
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells, Preparation, Progress, Settings
from cytolens.records.shown import record

Device = str | torch.device | None
_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_CALIBRATED_ON = 256  # cells that the statistics of an untrained network rest on


@record
class Classifier:
    """A network that takes prepared crops (N, C, H, W) and gives logits (N, class).

    Where ``outputs`` are no classes, ``class_names`` are the names of the outputs.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    channel_names: tuple[str, ...]
    input_shape: tuple[int, int, int]  # (C, H, W)
    preparation: Preparation | None = None  # of the crops it was trained on, if known
    spec: Settings = field(default_factory=dict[str, object])  # JSON that rebuilds the network
    outputs: str = "classes"  # or "labels" (several may hold), "values", "embedding"

    @property
    def gives_classes(self) -> bool:
        """Whether its outputs are the logits of classes, of which each cell has one."""
        return self.outputs == "classes"


def predict(
    classifier: Classifier,
    cells: Cells,
    *,
    batch_size: int | None = None,
    device: Device = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Class probabilities (N, class), float32: the network's own forward pass, then softmax.

    Each row is of one crop as it is, without averaging over turned copies, so that what is
    explained is what predicts. ``device=None`` stays where the network is. Its mode (training or
    evaluation) is left as found. On the CPU it runs with channels last in memory where it can.
    Raises ModelError if the crops do not fit the network, or if its
    outputs are no classes.
    """
    if not classifier.gives_classes:
        raise ModelError(
            f"the network gives {classifier.outputs}, not classes: there is nothing to predict"
        )
    return _answers(classifier, cells, batch_size, device, progress, probabilities=True)


def outputs_of(
    classifier: Classifier,
    cells: Cells,
    *,
    batch_size: int | None = None,
    device: Device = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """What the network itself gives (N, output), float32: logits, values, an embedding.

    As `predict`; raises ModelError if the crops do not fit the network.
    """
    return _answers(classifier, cells, batch_size, device, progress, probabilities=False)


def _answers(
    classifier: Classifier,
    cells: Cells,
    batch_size: int | None,
    device: Device,
    progress: Progress | None,
    *,
    probabilities: bool,
) -> NDArray[np.float32]:
    if cells.shape != classifier.input_shape:
        raise ModelError(
            f"the classifier takes crops of (channel, height, width) {classifier.input_shape}, "
            f"these cells are {cells.shape}; read them with the size and channels it was made for"
        )
    network = classifier.network
    chosen = device_of(network) if device is None else torch.device(device)
    answers = np.empty((len(cells), len(classifier.class_names)), dtype=np.float32)
    with (
        on_device(network, chosen),
        evaluating(network),
        fast_layout(network, cells.shape, chosen) as layout,
        torch.inference_mode(),
    ):
        for rows, crops in cells.batches(cells_at_once(batch_size, chosen)):
            given = network(laid_out(torch.from_numpy(crops).to(chosen), layout)).float()
            answers[rows] = (given.softmax(1) if probabilities else given).cpu().numpy()
            if progress is not None:
                progress(rows.stop, len(cells), "predictions")
    return answers


def untrained(
    classifier: Classifier, cells: Cells | NDArray[np.float32], *, rng: Rng = None
) -> Classifier:
    """The same network before training: the control for what training has added.

    Weights are those of `renewed`. Where batch normalisation keeps running statistics, they are
    then taken from ``cells`` (or crops (N, C, H, W)), of which at most 256 are drawn: left as they
    start, at mean 0 and variance 1, they keep the values of deep layers from being normalised at
    all, and the control is worse than a network with random weights has to be. Labels play no
    part. ``benchmarks/untrained.py`` measures how many cells it takes.
    """
    fresh = renewed(classifier, rng=rng)
    if any(_has_statistics(module) for module in fresh.network.modules()):
        some = np.random.default_rng(0).permutation(len(cells))[:_CALIBRATED_ON]
        crops = cells.read(np.sort(some)) if isinstance(cells, Cells) else cells[np.sort(some)]
        calibrate_norms(fresh.network, crops)
    return fresh


def calibrate_norms(network: nn.Module, crops: NDArray[np.float32]) -> None:
    """Set the running statistics of batch normalisation to those of crops (N, C, H, W).

    In one pass, in place: a norm sees what the norms before it make of these crops. Fewer than
    two crops have no statistics: nothing is changed. The mode of every module is left as found.
    """
    norms = [module for module in network.modules() if _has_statistics(module)]
    if len(crops) < 2:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluating(network), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all passes, here of one
            norm.train()
        network(torch.from_numpy(np.ascontiguousarray(crops)).to(device_of(network)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def renewed(classifier: Classifier, *, rng: Rng = None) -> Classifier:
    """The same architecture with fresh random weights.

    Modules re-initialise themselves where they can (``reset_parameters``); other parameters are
    shuffled, which keeps their distribution and destroys what they had learnt (as the random
    parametrisation test of Adebayo et al. 2018, arXiv:1810.03292).
    """
    network = deepcopy(classifier.network)
    torch_seed = seed_from(generator(rng))
    renewed: set[int] = set()
    with seeded(torch_seed):
        _reset(network, renewed)
    shuffle = torch.Generator().manual_seed(torch_seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if id(parameter) not in renewed:
                order = torch.randperm(parameter.numel(), generator=shuffle)
                mixed = parameter.flatten()[order.to(parameter.device)]
                parameter.copy_(mixed.view_as(parameter))
    return replace(classifier, network=network)


def _has_statistics(module: nn.Module) -> TypeGuard[_Norm]:
    return isinstance(module, _NORMS) and module.track_running_stats


def seed_from(draw: np.random.Generator) -> int:
    """A seed for torch, drawn from a NumPy Generator."""
    return int(draw.integers(2**63 - 1))


def _reset(module: nn.Module, renewed: set[int]) -> None:
    """Let every module that can re-initialise itself do so, innermost first; note what is renewed.

    A container may draw all its children's weights (CellNet) or only its own parameters
    (nn.MultiheadAttention): it has the last word.
    """
    for child in module.children():
        _reset(child, renewed)
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(module, name, None)
        if callable(reset):
            reset()
            renewed.update(id(parameter) for parameter in module.parameters(recurse=False))
            return
