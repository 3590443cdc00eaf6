"""Training, read from top to bottom: split, draw, augment, step, average, validate, stop."""

import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cytolens.activations.capture import evaluating
from cytolens.activations.forward import computes_bfloat16, fast_layout, laid_out
from cytolens.classifier.augmentation import Augmentation, augment, mix, suited_to
from cytolens.classifier.evaluation import measure
from cytolens.classifier.model import Classifier, Device, predict, renewed, seed_from
from cytolens.classifier.networks import build_network
from cytolens.classifier.optimiser import OneCycleAdamW
from cytolens.classifier.splitting import split_cells
from cytolens.classifier.wrapping import wrap_for
from cytolens.errors import SettingError, choose
from cytolens.images.sources import ArrayImages
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.machine import clock
from cytolens.numerics.resampling import drawn_evenly
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.shown import record

BALANCES = ("class", "none")
PRECISIONS = ("float32", "bfloat16")
IN_MEMORY = 2**29  # bytes of training crops, in the files' own dtype, that are kept
VALIDATED = 4096  # validation cells that are looked at after every epoch, at most


@dataclass(frozen=True)
class TrainingSettings:
    """How the reference network is trained. The same defaults serve every data set in the tests."""

    epochs: int = 40  # at most
    patience: int = 15  # epochs without a better validation loss before training stops
    batch_size: int = 32
    learning_rate: float = 3e-3  # the highest; one cycle: warm-up, then cosine to zero
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    averaging: float = 0.95  # weights are averaged over about 1 / (1 - averaging) steps
    balance: str = "class"  # all classes count alike in the loss; "none": all cells do
    epoch_cells: int = 8192  # cells per epoch, at most: large data sets take as long as small ones
    width: int = 8  # channels of the first stage
    stages: int | None = None  # conv pairs; None: from the crop size
    pre_softmax: int = 64  # features of the pre-softmax layer
    augmentation: Augmentation | None = None  # None: what suits the crops
    precision: str | None = None  # of a step; None: bfloat16 where a processor computes in it


@record
class Training:
    """A trained classifier, the split it was trained on, and how it went, epoch by epoch."""

    model: Classifier
    split: Split
    history: tuple[dict[str, float], ...]
    pool: int | None = None  # training cells that were drawn to learn from; None: all of them


def train(
    cells: Cells,
    *,
    architecture: nn.Module | None = None,
    split: Split | None = None,
    settings: TrainingSettings | None = None,
    rng: Rng = None,
    device: Device = None,
    progress: Progress | None = None,
) -> Training:
    """Train the reference network on the cells; the epoch with the least validation loss stays.

    ``architecture``: a network of your own to train instead, from fresh weights; the module that
    is given is left as it is, and ``width``, ``stages`` and ``pre_softmax`` have no effect.

    ``split=None`` takes `split_cells`; the test cells are not touched. With an empty validation
    part every epoch is run and the last weights stay. Where the training crops take more than 512
    MB, as many as that are drawn, as evenly from the classes as they weigh in the loss; crops so
    large that this leaves few are read from the disk instead. Of more than 4096 validation cells as
    many are drawn. ``device=None`` trains on a GPU if PyTorch sees one; the trained network lies on
    the CPU, in evaluation mode. The same ``rng`` gives the same weights on the same machine and
    number of threads: a processor that computes in bfloat16 steps the reference network so
    (``precision``). Its weights are kept and validated in float32. ``progress`` is called after
    every epoch. Raises SettingError if a part lacks a class, or for a setting out of range.

    >>> from cytolens.images.arrays import cells_from_arrays
    >>> images = np.random.default_rng(0).integers(0, 255, size=(40, 1, 16, 16), dtype=np.uint8)
    >>> cells = cells_from_arrays(images, ["G1", "M"] * 20)
    >>> made = train(cells, settings=TrainingSettings(epochs=1), rng=0)
    >>> made.model.class_names, len(made.history), len(made.split.test)
    (('G1', 'M'), 1, 8)
    """
    settings = settings or TrainingSettings()
    draw = generator(rng)
    split = split or split_cells(cells, rng=draw)
    check_settings(settings)
    grouped = cells.groups is not None
    views = settings.augmentation or suited_to(cells.preparation, grouped=grouped)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = settings.precision or _precision(where, own=architecture is not None)
    settings = replace(settings, augmentation=views, precision=precision)
    _check_split(cells, split)
    model = _new_classifier(cells, settings, architecture, seed=seed_from(draw))
    random = torch.Generator().manual_seed(seed_from(draw))
    averaged = model.network.to(where)  # what is validated and kept
    network = deepcopy(averaged).train().requires_grad_()  # what is stepped
    with evaluating(averaged), fast_layout(averaged, cells.shape, where) as layout:
        network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    pairs = list(
        zip(averaged.state_dict().values(), network.state_dict().values(), strict=True)
    )  # the tensors themselves, not copies
    learnt = _pool(cells, split.train, settings, draw)
    crops, labels = _in_memory(cells.subset(learnt)), cells.labels[learnt]
    weights = _loss_weights(cells.subset(learnt), settings.balance)
    validation = _in_memory(cells.subset(_validated(cells, split.validation, draw)))
    mixing = np.random.default_rng(seed_from(draw) if views.mixup else 0)
    batch_size = min(settings.batch_size, len(labels))
    steps = min(len(labels), settings.epoch_cells) // batch_size
    optimiser = OneCycleAdamW(
        network,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        steps=settings.epochs * steps,
    )

    def logits_of(images: Tensor) -> Tensor:
        """Logits (n, class) of crops, in float32 however they are computed."""
        half = settings.precision == "bfloat16"
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=half):
            return network(laid_out(images, layout)).float()

    def loss_of(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Weighted losses (n,) of logits (n, class) where the cells ``rows`` are the truth."""
        truth, weight = (torch.from_numpy(of[rows]).to(where) for of in (labels, weights))
        smoothing = settings.label_smoothing
        found = functional.cross_entropy(logits, truth, label_smoothing=smoothing, reduction="none")
        return found * weight

    history: list[dict[str, float]] = []
    best, started = _Best(), time.monotonic()
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for rows in _batches(len(labels), batch_size, steps, random):
            images = torch.from_numpy(crops.read(rows)).to(where)
            seen = augment(images, views, generator=random)
            if views.mixup:
                seen, share, others = mix(seen, views.mixup, mixing)
                logits = logits_of(seen)
                losses = share * loss_of(logits, rows) + (1 - share) * loss_of(logits, rows[others])
            else:
                losses = loss_of(logits_of(seen), rows)
            loss = losses.mean()
            optimiser.step(loss)
            _follow(pairs, settings.averaging, step=optimiser.done)
            total += float(loss.detach())
        entry = {"epoch": float(epoch), "training_loss": total / steps}
        if len(validation):
            entry |= _validate(predict(model, validation), validation.labels)
            best.offer(epoch, entry["validation_loss"], averaged)
        history.append(entry)
        if progress is not None:
            progress(epoch, settings.epochs, _note(entry, started, settings.epochs))
        if len(validation) and epoch - best.epoch >= settings.patience:
            break
    best.restore(averaged)
    averaged.cpu()
    pool = len(learnt) if len(learnt) < len(split.train) else None
    return Training(model=model, split=split, history=tuple(history), pool=pool)


def check_settings(settings: TrainingSettings) -> None:
    """Raise SettingError, one line, for a setting out of range."""
    whole = ("epochs", "patience", "batch_size", "epoch_cells", "width", "pre_softmax")
    for name in whole:
        if getattr(settings, name) < 1:
            raise SettingError(f"{name} {getattr(settings, name)} must be at least 1")
    if settings.batch_size < 2:
        raise SettingError("batch_size 1 leaves nothing to normalise over; give at least 2")
    if settings.learning_rate <= 0:
        raise SettingError(f"learning_rate {settings.learning_rate} must be above 0")
    for name in ("weight_decay", "label_smoothing", "averaging"):
        if not 0 <= getattr(settings, name) < 1:
            raise SettingError(f"{name} {getattr(settings, name)} must be from 0 to below 1")
    choose("balance", settings.balance, BALANCES)
    if settings.precision is not None:
        choose("precision", settings.precision, PRECISIONS)


class _Best:
    """The weights of the epoch with the least validation loss."""

    def __init__(self) -> None:
        self.epoch, self.loss = 0, float("inf")
        self._weights: Mapping[str, Tensor] | None = None

    def offer(self, epoch: int, loss: float, network: nn.Module) -> None:
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            self._weights = {name: value.clone() for name, value in network.state_dict().items()}

    def restore(self, network: nn.Module) -> None:
        if self._weights is not None:
            network.load_state_dict(dict(self._weights))


def _precision(device: torch.device, *, own: bool) -> str:
    """What a step is computed in: a network of the user's may not be made for less than float32."""
    half = device.type == "cpu" and not own and computes_bfloat16()
    return "bfloat16" if half else "float32"


def _bytes_each(cells: Cells) -> int:
    return int(np.prod(cells.shape)) * np.dtype(cells.preparation.dtype).itemsize


def _pool(
    cells: Cells, part: NDArray[np.int64], settings: TrainingSettings, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The training cells that are learnt from: all, or a draw that fits in memory.

    Crops so large that the draw would be fewer than four epochs' are all used, from the disk.
    """
    most = IN_MEMORY // _bytes_each(cells)
    if len(part) <= most or most < 4 * settings.epoch_cells:
        return part
    if settings.balance == "class":
        return part[drawn_evenly(cells.labels[part], most, rng)]
    return np.sort(rng.choice(part, most, replace=False))


def _validated(
    cells: Cells, part: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The validation cells that are looked at: all, or a draw, as evenly from the classes."""
    return (
        part if len(part) <= VALIDATED else part[drawn_evenly(cells.labels[part], VALIDATED, rng)]
    )


def _in_memory(cells: Cells) -> Cells:
    """The same cells, read once if their crops fit, else batch by batch as before."""
    if len(cells) * _bytes_each(cells) > IN_MEMORY:
        return cells
    every = slice(0, len(cells))
    raw = cells.images.read_raw(every)
    return replace(cells, images=ArrayImages(raw, cells.original_sizes, cells.preparation))


def _new_classifier(
    cells: Cells, settings: TrainingSettings, own: nn.Module | None, *, seed: int
) -> Classifier:
    if own is not None:
        brought = wrap_for(own, cells, spec={"training": asdict(settings)})
        fresh = renewed(brought, rng=seed)
        fresh.network.eval().requires_grad_(False)
        return fresh
    network = build_network(
        cells.shape,
        len(cells.class_names),
        seed=seed,
        width=settings.width,
        stages=settings.stages,
        pre_softmax=settings.pre_softmax,
    )
    return Classifier(
        network=network.eval().requires_grad_(False),
        class_names=cells.class_names,
        channel_names=cells.channel_names,
        input_shape=cells.shape,
        preparation=cells.preparation,
        spec={"kind": "CellNet", "network": network.arguments, "training": asdict(settings)},
    )


def _check_split(cells: Cells, split: Split) -> None:
    parts = {"training": split.train, "validation": split.validation}
    for part, index in parts.items():
        lacking = np.setdiff1d(np.arange(len(cells.class_names)), cells.labels[index])
        if len(lacking) and (part == "training" or len(index)):
            names = ", ".join(cells.class_names[code] for code in lacking)
            raise SettingError(f"the {part} cells hold no cell of {names}; choose another split")


def _loss_weights(cells: Cells, balance: str) -> NDArray[np.float32]:
    """Weight of each cell's loss (n,), mean 1."""
    if balance == "none":
        return np.ones(len(cells), dtype=np.float32)
    weights = 1 / np.bincount(cells.labels)[cells.labels]
    return (weights / weights.mean()).astype(np.float32)


def _batches(n: int, size: int, steps: int, random: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """One epoch: numbers below n in random order, ``steps`` full batches, the remainder left out.

    A last small batch would spoil the batch statistics; what is left out differs every epoch.
    """
    order = torch.randperm(n, generator=random).numpy()
    return (order[step * size : (step + 1) * size] for step in range(steps))


@torch.no_grad()
def _follow(pairs: list[tuple[Tensor, Tensor]], averaging: float, *, step: int) -> None:
    """Move every averaged tensor toward the stepped one; in the first steps, faster.

    Exponential moving average of weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017,
    arXiv:1703.01780): flatter optimum, steadier validation.
    """
    decay = min(averaging, step / (step + 9))
    for average, current in pairs:
        if average.is_floating_point():
            average.lerp_(current, 1 - decay)
        else:
            average.copy_(current)


def _validate(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Validation loss with every class counting alike, as in training; accuracy; AUC."""
    found = measure(probabilities, labels)
    truth = probabilities[np.arange(len(labels)), labels]
    surprise = -np.log(np.clip(truth, 1e-7, 1))
    by_class = np.bincount(labels, surprise) / np.bincount(labels)
    return {
        "validation_loss": float(by_class.mean()),
        "validation_accuracy": found["balanced_accuracy"],
        "validation_auc": found["auc"],
    }


def _note(entry: Mapping[str, float], started: float, epochs: int) -> str:
    epoch = int(entry["epoch"])
    left = (time.monotonic() - started) / epoch * (epochs - epoch)
    accuracy = entry.get("validation_accuracy")
    reached = "" if accuracy is None else f", validation balanced accuracy {accuracy:.3f}"
    return f"epoch {epoch} of at most {epochs}{reached}, about {clock(left)} left"
