"""The classifier of a study: trained or brought, its layers, and how well it does."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.statement import remarks_on_statement, seen_as_stated, stated_split
from cytolens.errors import SettingError
from cytolens.records.cells import Cells, Duplicates, Progress, Split
from cytolens.records.classifier import Evaluation, Folds, Predictions, TrainedNetwork
from cytolens.records.layers import Activations, Layer, Unseen
from cytolens.store.run_folder import RunFolder, Sink
from cytolens.study.parts import Made, Parts
from cytolens.study.stage import RESULT, Keep, Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows

if TYPE_CHECKING:
    from torch import nn

    from cytolens.classifier.model import Classifier
    from cytolens.classifier.training import TrainingSettings

_UNTRAINED = (
    "The network was not trained: its weights are random. What follows describes its architecture."
)
_NO_CLASSES = (
    "The network gives {what}, not one class for each cell: there are no predictions, no measures "
    "of them, no alarms, no explained cells and no images of classes here. The classes are the "
    "labels of your cells, which the network need not know. Channels are ranked by what the "
    "largest output, against the mean of the others, loses without them."
)
_GIVEN = {
    "labels": "labels of which several may hold",
    "values": "values",
    "embedding": "an embedding",
}
_MOST_FOLDS = 10  # networks that are trained without being asked for
_EPOCH_CELLS = 8192  # cells that an epoch of training takes at most
_MOST_WORK = 3e7  # groups × cells × pixels
BLOCK = 4096  # cells whose activations are extracted at a time: whole chunks of the store
Block = Mapping[str, NDArray[np.float32]]
"""Features (n, F) of some cells, by layer."""
Extraction = Callable[[Sink], Activations]
"""Activations that are yet to be made: called with the sink that they are streamed to."""


def split(
    cells: Cells,
    together: Duplicates | None,
    *,
    trained_on: str | None,
    held_out: str | None,
    untrained: bool,
    seed: int,
) -> Split:
    """Which cells train, validate and test; of a network that was trained elsewhere, as stated."""
    return stated_split(
        cells,
        trained_on=trained_on,
        held_out=held_out,
        untrained=untrained,
        together=None if together is None else together.pairs,
        rng=seed,
    )


def classifier(
    cells: Cells,
    own_module: "nn.Module | None",
    split: Split,
    *,
    trained_on: str | None,
    held_out: str | None,
    untrained: bool,
    outputs: str,
    output_names: list[str],
    epochs: int | None,
    seed: int,
    device: str | None,
    progress: Progress,
) -> TrainedNetwork:
    """The reference network, trained; or the user's, as it is and tried on a few cells."""
    from cytolens.classifier.checkpoints import to_checkpoint
    from cytolens.classifier.training import train

    if own_module is not None:
        brought = _with_its_outputs(own_module, cells, outputs, output_names)
        return _brought(brought, cells, split, trained_on, held_out, untrained, seed)
    if outputs != "classes":
        raise SettingError(
            f"--outputs {outputs} speaks of a network of your own; name it with --model"
        )
    if trained_on is not None or held_out is not None or untrained:
        raise SettingError(
            "--trained-on, --held-out and --untrained speak of a network of your own; name it with "
            "--model"
        )
    made = train(
        cells, split=split, settings=_training(epochs), rng=seed, device=device, progress=progress
    )
    return TrainedNetwork(to_checkpoint(made.model), made.history, pool=made.pool)


def _with_its_outputs(
    module: "nn.Module", cells: Cells, outputs: str, names: list[str]
) -> "Classifier":
    """The user's network with what its inputs and outputs mean. Raises ModelError."""
    from cytolens.classifier.wrapping import wrap_for

    if names and outputs == "classes":
        raise SettingError(
            "--output-names are of outputs that are no classes; name classes with --classes, or "
            "say --outputs labels, values or embedding"
        )
    return wrap_for(module, cells, outputs=outputs, output_names=names)


def _brought(
    brought: "Classifier",
    cells: Cells,
    split: Split,
    trained_on: str | None,
    held_out: str | None,
    untrained: bool,
    seed: int,
) -> TrainedNetwork:
    from cytolens.classifier.checkpoints import to_checkpoint
    from cytolens.classifier.trial import MOST_CROPS, try_network

    some = np.random.default_rng(seed).permutation(len(cells))[:MOST_CROPS]
    crops = cells.read(np.sort(some))
    remarks = try_network(brought.network, crops, outputs=brought.outputs)
    seen = seen_as_stated(cells, trained_on=trained_on, held_out=held_out, untrained=untrained)
    if untrained:
        remarks = (_UNTRAINED, *remarks)
    elif seen == "no":
        remarks += remarks_on_statement(cells, split, trained_on, held_out)
    if not brought.gives_classes:
        remarks = (_NO_CLASSES.format(what=_GIVEN[brought.outputs]), *remarks)
    return TrainedNetwork(to_checkpoint(brought), (), seen, remarks)


def network(classifier: TrainedNetwork, own_module: "nn.Module | None") -> "Classifier":
    """The network itself, with what its inputs and outputs mean."""
    from cytolens.classifier.checkpoints import from_checkpoint

    return from_checkpoint(classifier.checkpoint, module=own_module)


def layers(network: "Classifier", *, layers: list[str], depths: int | None) -> tuple[Layer, ...]:
    """The layers looked at, in depth order, the input first and the logits last.

    Where none are named, of those with channels of their own at most ``depths``, evenly spread.
    """
    from cytolens.activations.layers import find_layers

    found = find_layers(network.network, network.input_shape, names=layers or None)
    own = layers_with_channels(found)
    if layers or depths is None or len(own) <= depths:
        return found
    chosen = np.linspace(0, len(own) - 1, depths).round().astype(int)
    return (found[0], *(own[place] for place in chosen), found[-1])


def unseen_layers(network: "Classifier") -> tuple[Unseen, ...]:
    """What of the network cannot be looked at, and why."""
    from cytolens.activations.layers import unseen_layers as find_unseen

    found = find_unseen(network.network, network.input_shape)
    return tuple(Unseen(name, reason) for name, reason in found.items())


def main_layer(layers: tuple[Layer, ...]) -> str:
    """The layer that is shown large: the last with channels of its own before the logits.

    Where there is none, the last before the logits.
    """
    own = layers_with_channels(layers)
    return (own[-1] if own else layers[max(len(layers) - 2, 0)]).name


def layers_with_channels(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Layers whose channels are shown: all with channels of their own but input and logits."""
    return tuple(la for la in layers[:-1] if la.kind not in ("input", "pool", "norm"))


def evaluation(
    network: "Classifier",
    cells: Cells,
    split: Split,
    *,
    seed: int,
    batch_size: int | None,
    device: str | None,
    progress: Progress,
) -> Predictions | None:
    """Predictions for all cells; measures on the test cells, against a linear baseline.

    None for a network whose outputs are no classes.
    """
    if not network.gives_classes:
        return None
    from cytolens.classifier.baseline import linear_baseline
    from cytolens.classifier.evaluation import compare, evaluate
    from cytolens.classifier.model import predict

    probabilities = predict(network, cells, batch_size=batch_size, device=device, progress=progress)
    progress(1, 3, "evaluating")
    test = split.test
    labels = cells.labels[test]
    groups = None if cells.groups is None else cells.groups[test]
    measured = evaluate(probabilities[test], labels, groups=groups, rng=seed)
    progress(2, 3, "linear baseline")
    linear = linear_baseline(cells, split, rng=seed)
    return Predictions(
        probabilities,
        measured,
        evaluate(linear, labels, groups=groups, rng=seed),
        compare(probabilities[test], linear, labels, groups=groups, rng=seed),
    )


def folds(
    cells: Cells,
    own_module: "nn.Module | None",
    together: Duplicates | None,
    *,
    folds: str | None,
    epochs: int | None,
    seed: int,
    device: str | None,
    progress: Progress,
) -> Made[NDArray[np.float32], Folds | None]:
    """A network per held-out group or fold; without a word, per group where that is worth it."""
    from cytolens.classifier.splitting import joined

    if folds == "none" or (folds is None and own_module is not None):
        return None
    if own_module is not None:
        raise SettingError("--folds trains networks: it goes with the reference network only")
    if together is not None:
        cells = joined(cells, together.pairs)
    if folds is None and not worth_folds(cells):
        return None
    from cytolens.classifier.crossvalidation import plan_folds

    plan = plan_folds(
        cells, folds="group" if folds in (None, "group") else _whole("--folds", folds),
        settings=_training(epochs), rng=seed, device=device, progress=progress,
    )  # fmt: skip
    found = yield Parts(plan.names, plan.train, plan.at_once)
    return plan.judge(list(found))


def worth_folds(cells: Cells) -> bool:
    """Whether a network per group is trained without being asked for.

    With 3 to 10 groups that have cells of every class, where groups × cells (at most the 8192
    that an epoch takes) × pixels of a crop are at most 3 × 10⁷: about a quarter of an hour on one
    core. The rule knows no clock, so that the same data have the same stages everywhere.
    """
    if cells.groups is None:
        return False
    names, codes = np.unique(cells.groups, return_inverse=True)
    table = np.zeros((len(names), len(cells.class_names)), dtype=np.int64)
    np.add.at(table, (codes.reshape(-1), cells.labels), 1)
    height, width = cells.shape[1:]
    work = len(names) * min(len(cells), _EPOCH_CELLS) * height * width
    return 3 <= len(names) <= _MOST_FOLDS and bool(table.all()) and work <= _MOST_WORK


def activations(
    network: "Classifier",
    cells: Cells,
    layers: tuple[Layer, ...],
    *,
    reduction: str,
    batch_size: int | None,
    device: str | None,
    progress: Progress,
) -> Made[Block, Extraction]:
    """Features of every cell at every depth, a block of cells at a time."""
    made = yield from _in_blocks(
        lambda: network, cells, layers, progress,
        reduction=reduction, batch_size=batch_size, device=device,
    )  # fmt: skip
    return made


def _in_blocks(
    network: Callable[[], "Classifier"],
    cells: Cells,
    layers: tuple[Layer, ...],
    progress: Progress,
    *,
    reduction: str,
    **how: Any,
) -> Made[Block, Extraction]:
    """The same of a network that is built with the first block; ``how`` as for `extract`."""
    from cytolens.activations.extraction import extract, gather

    n = len(cells)
    starts = range(0, n, BLOCK)

    def block(number: int) -> Block:
        start = starts[number]
        return extract(
            network().network, cells[start : start + BLOCK], layers=layers, reduction=reduction,
            progress=lambda done, total, note: progress(start + done, n, note), **how,
        ).features  # fmt: skip

    made = yield Parts([f"cells from {start}" for start in starts], block)
    return lambda sink: gather(made, layers, n, reduction=reduction, sink=sink)


def untrained(
    network: "Classifier",
    cells: Cells,
    split: Split,
    held_out: Rows,
    layers: tuple[Layer, ...],
    *,
    reduction: str,
    seed: int,
    batch_size: int | None,
    device: str | None,
    progress: Progress,
) -> Made[Block, Extraction]:
    """The same of the same network before training, for the held-out cells.

    Its batch normalisation rests on the training cells, as that of the trained network does; on
    all cells where the network brought has seen none.
    """
    from cytolens.classifier.model import untrained as before_training

    known = cells.subset(split.train) if len(split.train) else cells
    made = yield from _in_blocks(
        cache(lambda: before_training(network, known, rng=seed)), cells.subset(held_out), layers,
        progress, reduction=reduction, batch_size=batch_size, device=device,
    )  # fmt: skip
    return made


def _training(epochs: int | None) -> "TrainingSettings":
    from cytolens.classifier.training import TrainingSettings

    return TrainingSettings() if epochs is None else TrainingSettings(epochs=epochs)


def _whole(flag: str, text: str) -> int:
    if not text.isdigit() or not 2 <= int(text) <= 100:
        raise SettingError(f"{flag} '{text}': give 'group', 'none' or a number from 2 to 100")
    return int(text)


def _summary_of_classifier(
    evaluation: Predictions | None, folds: Folds | None, classifier: TrainedNetwork
) -> Summary:
    entries: dict[str, Any] = {
        "seen": classifier.seen,
        "remarks": list(classifier.remarks),
        "outputs": classifier.checkpoint.spec.get("outputs", "classes"),
    }
    if evaluation is not None:
        test = evaluation.test
        entries |= {
            "test": {"n": test.n, **_measures(test)},
            "baseline": _measures(evaluation.baseline),
            "ahead_of_baseline": as_entries(evaluation.ahead),
        }
    if folds is not None:
        single = zip(folds.names, folds.evaluations, strict=True)
        entries["folds"] = {
            **as_entries(folds.measures),
            "per_fold": {
                name: {measure: estimate.value for measure, estimate in found.measures.items()}
                for name, found in single
            },
        }
    return Summary({"classifier": entries})


def _summary_of_layers(layers: tuple[Layer, ...]) -> Summary:
    return Summary(
        layers={
            layer.name: {
                "name": layer.name,
                "kind": layer.kind,
                "depth": layer.depth,
                "shape": list(layer.shape),
                "channels": layer.channels,
                "receptive_field": layer.receptive_field,
            }
            for layer in layers
        }
    )


def _summary_of_unseen(unseen_layers: tuple[Unseen, ...]) -> Summary:
    return Summary({"unseen_layers": {found.name: found.reason for found in unseen_layers}})


def _measures(evaluation: Evaluation) -> dict[str, Any]:
    return as_entries(evaluation.measures)


def _write_network(folder: RunFolder, name: str, value: TrainedNetwork, progress: Progress) -> None:
    folder.write_checkpoint(value.checkpoint)
    folder.write_result(
        "training",
        {
            "history": value.history,
            "seen": value.seen,
            "remarks": value.remarks,
            "pool": value.pool,
        },
    )


def _read_network(folder: RunFolder, name: str) -> TrainedNetwork:
    training = folder.read_result("training")
    training.pop("split", None)  # of earlier versions
    return TrainedNetwork(folder.read_checkpoint(), **training)


def _read_split(folder: RunFolder, name: str) -> Split:
    """The split; earlier versions kept it with the classifier."""
    return folder.read_result(name) if folder.has(name) else folder.read_result("training")[name]


def _with_names(settings: dict[str, Any]) -> dict[str, Any]:
    """A file of names counts by its content, not by its path; what is usual does not count."""
    if settings.get("outputs") == "classes":
        usual = ("outputs", "output_names")
        settings = {name: value for name, value in settings.items() if name not in usual}
    named = {key: settings[key] for key in ("trained_on", "held_out") if settings[key]}
    files = {key: Path(text) for key, text in named.items() if Path(text).is_file()}
    return {**settings, **{key: file.read_text("utf-8-sig") for key, file in files.items()}}


_STREAMED = Keep(
    lambda folder, name, value, progress: folder.write_activations(name, value),
    lambda folder, name: folder.read_activations(name),
)
SPLIT = Stage(
    "split",
    "splitting the cells",
    split,
    keep=replace(RESULT, read=_read_split, within="classifier"),
    relevant=_with_names,
)
CLASSIFIER = Stage(
    "classifier",
    "training the classifier",
    classifier,
    version=5,
    keep=Keep(_write_network, _read_network),
    relevant=_with_names,
)
NETWORK = Stage("network", "building the network", network, keep=None)
LAYERS = Stage("layers", "finding the layers", layers, version=2, summary=_summary_of_layers)
UNSEEN_LAYERS = Stage(
    "unseen_layers", "finding what cannot be looked at", unseen_layers, summary=_summary_of_unseen
)
MAIN_LAYER = Stage("main_layer", "choosing the layer to show", main_layer, keep=None)
EVALUATION = Stage(
    "evaluation", "evaluating the classifier", evaluation, version=3,
    summary=_summary_of_classifier,
)  # fmt: skip
FOLDS = Stage("folds", "training a network per fold", folds, version=4)
ACTIVATIONS = Stage("activations", "extracting activations", activations, keep=_STREAMED)
UNTRAINED = Stage(
    "untrained", "extracting activations before training", untrained, version=2, keep=_STREAMED
)
