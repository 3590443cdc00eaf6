"""Asking the network, which runs in a process of its own: a question never blocks the page.

The process is started when the page first needs it, and loads torch; the server never does. One
question is worked on at a time: a new one takes the place of the one before.
"""

import base64
import multiprocessing
import os
import signal
import threading
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import CytolensError, ModelError, RunError
from cytolens.explorer.pictures import as_bytes, png

STEPS = (4, 12, 32, 64)
"""Steps of gradient ascent of the pictures that are shown one after another."""

_FIRST_STEPS = 12  # up to which the prior is one from few cells
_FIRST_CELLS = 150  # that it rests on
_REST = 4096  # other cells that a selection is compared with, at most


@dataclass
class Answer:
    """What is known of a question so far, as the page is given it."""

    state: str = "waiting"  # "waiting", "working", "done", "failed" or "cancelled"
    note: str = ""  # what is going on, or what went wrong
    version: int = 0  # raised with every change
    content: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        return {
            "state": self.state, "note": self.note, "version": self.version, **self.content,
        }  # fmt: skip


class Network:
    """The process that runs the network, and the answers it has given."""

    def __init__(self, run: Path, *, trust_model: bool, own_model: bool) -> None:
        """``own_model``: the network is the user's own, which is code."""
        self._run, self._trusted, self._own = run, trust_model, own_model
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None
        self._answers: dict[int, Answer] = {}
        self._last = 0

    @property
    def allowed(self) -> bool:
        """Whether it may be run: a run of a stranger could name any code."""
        return self._trusted or not self._own

    def start(self) -> None:
        """Have the process ready before it is asked.

        Raises ModelError where the run names code as its network and that is not trusted.
        """
        if not self.allowed:
            raise ModelError(
                "this run's network is a Python file, which is not run unless you trust it: "
                "cytolens explore RUN --trust-model"
            )
        with self._lock:
            if self._process is not None and self._process.is_alive():
                return
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._process = context.Process(
                target=_work, args=(str(self._run), self._trusted, theirs), daemon=True
            )
            self._process.start()
            theirs.close()
            self._pipe = ours
            threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    def ask(self, kind: str, **question: Any) -> int:
        """Put a question; gives its number. The one before is given up. Raises ModelError."""
        self.start()
        with self._lock:
            self._end_open("cancelled")
            self._last += 1
            self._answers = {k: a for k, a in self._answers.items() if k > self._last - 20}
            self._answers[self._last] = Answer(note="the network is being loaded")
            self._send((self._last, kind, question))
            return self._last

    def answer(self, number: int) -> Answer | None:
        """What is known of a question; None where it was never put."""
        with self._lock:
            found = self._answers.get(number)
            return None if found is None else replace(found)

    def cancel(self, number: int) -> None:
        """Give a question up; the process stays ready."""
        with self._lock:
            if number == self._last and self._open(number):
                self._change(number, state="cancelled", note="")
                self._send((0, "stop", {}))

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.terminate()
                self._process.join(5)
                self._process = None

    def _send(self, message: Any) -> None:
        if self._pipe is not None:
            try:
                self._pipe.send(message)
            except OSError:
                self._end_open("failed", "the network's process has ended; ask again")

    def _listen(self, pipe: Connection) -> None:
        while True:
            try:
                number, change = pipe.recv()
            except (EOFError, OSError):
                with self._lock:
                    self._end_open("failed", "the network's process has ended; ask again")
                return
            with self._lock:
                if self._open(number):
                    self._change(number, **change)

    def _open(self, number: int) -> bool:
        found = self._answers.get(number)
        return found is not None and found.state in ("waiting", "working")

    def _end_open(self, state: str, note: str = "") -> None:
        for number in self._answers:
            if self._open(number):
                self._change(number, state=state, note=note)

    def _change(self, number: int, **change: Any) -> None:
        found = self._answers[number]
        content = {**found.content, **change.pop("content", {})}
        self._answers[number] = replace(found, **change, content=content, version=found.version + 1)


class _Stopped(Exception):
    """The question is no longer of interest."""


def _work(run: str, trusted: bool, pipe: Connection) -> None:
    """The process: reads questions from the pipe, and sends what it finds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep
    from cytolens.numerics.threads import asked_threads, limited_threads

    with limited_threads(asked_threads() or 1):
        try:
            explained: _Explained | Exception = _Explained(run, trusted)
        except Exception as error:
            explained = error
        _answer_all(explained, run, pipe)


def _answer_all(explained: "_Explained | Exception", run: str, pipe: Connection) -> None:
    """Work on one question after another until the pipe is closed."""
    waiting: list[Any] = []
    while True:
        try:
            message = waiting.pop() if waiting else pipe.recv()
        except EOFError:
            return
        number, kind, question = message
        if kind == "stop":
            continue

        def check() -> None:
            if pipe.poll():
                waiting.append(pipe.recv())
                raise _Stopped

        def say(number: int = number, **change: Any) -> None:
            pipe.send((number, change))

        try:
            if isinstance(explained, Exception):
                raise explained
            getattr(explained, kind)(say, check, **question)
        except _Stopped:
            say(state="cancelled", note="")
        except CytolensError as error:
            say(state="failed", note=_without_paths(str(error), run))
        except Exception as error:
            say(state="failed", note=f"that failed ({type(error).__name__})")


def _without_paths(text: str, run: str) -> str:
    """An error's words without any path of this machine."""
    return " ".join(
        "…" if "/" in word.strip("'\"(),;") and word.strip("'\"(),;").startswith("/") else word
        for word in text.replace(run, "RUN").split()
    )


class _Explained:
    """The run with its network, in the process that may load torch."""

    def __init__(self, run: str, trusted: bool) -> None:
        import torch

        from cytolens.classifier.threads import threads_for
        from cytolens.figures.tiles import display_of_cells
        from cytolens.study.finished_run import FinishedRun

        self.run = FinishedRun(run, trust_model=trusted)
        self.mapped: NDArray[np.int64] = self.run["mapped"]
        self.drawn = display_of_cells(self.run.cells)
        self.network = self.run["network"]
        torch.set_num_threads(threads_for(self.network))
        self.first = self._from_few_cells()
        self.ascents: Any = None  # from as many cells as the study's: fitted with the first answer
        self.layers = {layer.name: layer for layer in self.run.layers}

    def see(
        self,
        say: Callable[..., None],
        check: Callable[[], None],
        *,
        layer: str,
        cells: NDArray[np.int64],
        others: NDArray[np.int64] | None,
    ) -> None:
        """Pictures of what the network sees in cells at a depth, and not in the others.

        The direction is from the mean of all (or of both) to the mean of ``cells``, whitened, in
        the space of the layer's channels. Each picture is made anew, with more steps.
        """
        from cytolens.features.objectives import direction
        from cytolens.features.optimisation import feature_images

        say(state="working", note="comparing the cells")
        ascents = self.ascents or self.first
        features, members = self._compared(layer, cells, others)
        toward = _direction(features, members)
        check()
        objective = direction(layer, toward, names=["the chosen cells"])
        for steps in STEPS:
            if ascents is self.first and steps > _FIRST_STEPS:
                say(note="learning once what the cells of the run look like")
                ascents = self.ascents = self.run["ascents"]
                check()
            say(note=f"{steps} steps")
            ascent = replace(ascents.ascent, steps=steps)

            def progress(done: int, total: int, note: str) -> None:
                del done, total, note
                check()

            options: dict[str, Any] = {**ascents.options, "ascent": ascent}
            made = feature_images(self.network, objective=objective, progress=progress, **options)
            check()
            picture = self._picture(made.images[0])
            say(content={"picture": picture, "steps": steps, "last": STEPS[-1]})
        say(state="done", note="")

    def place(self, say: Callable[..., None], check: Callable[[], None], *, folder: str) -> None:
        """New cells in a folder, on all maps."""
        from cytolens.images.new_cells import read_alike
        from cytolens.study.place import OldMaps

        say(state="working", note="reading the new cells")
        found = next(Path(folder).iterdir()) if len(list(Path(folder).iterdir())) == 1 else folder
        cells = read_alike(found, self.run.cells, isolate=True)  # from the browser: of anyone
        check()
        say(note="running the network")
        maps = OldMaps(self.run)
        features, probabilities = maps.features(cells)

        def progress(done: int, total: int, note: str) -> None:
            say(note=f"placing at {note} ({done + 1} of {total})")
            check()

        placed = maps.place(cells, features, probabilities, progress=progress)
        crops = as_bytes(cells.read(slice(None)), self.drawn)
        say(
            state="done",
            note="",
            content={
                "names": [Path(name).name for name in placed.names.tolist()],
                "predicted": probabilities.argmax(axis=1).tolist(),
                "confidence": np.round(probabilities.max(axis=1), 4).tolist(),
                "odd": placed.overall.odd.tolist(),
                "depths_odd": placed.depths_odd.tolist(),
                "places": {
                    method: {
                        layer: self._on_map(method, layer, where)
                        for layer, where in by_layer.items()
                    }
                    for method, by_layer in placed.places.items()
                },
                "pictures": [self._encoded(crop) for crop in crops[:200]],
                "remarks": list(cells.remarks),
            },
        )

    def _from_few_cells(self) -> Any:
        """How images are made, with a prior from few cells, which takes a second."""
        from cytolens.study.stage import table

        split, rng = self.run["split"], np.random.default_rng(self.run.settings.seed)
        few = replace(split, train=np.sort(rng.permutation(split.train)[:_FIRST_CELLS]))
        results: Mapping[str, Any] = ChainMap({"split": few}, self.run)  # pyright: ignore[reportArgumentType]
        return table()["ascents"].run(results, self.run.settings, lambda done, total, note: None)

    def _compared(
        self, layer: str, cells: NDArray[np.int64], others: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features of the cells and of those that they are compared with; rows of the former."""
        if layer not in self.layers:
            raise RunError("there is no such layer")
        rng = np.random.default_rng(0)
        if others is None:
            rest = np.arange(len(self.mapped))
            rest = np.sort(rng.permutation(rest)[:_REST])
        else:
            rest = np.sort(rng.permutation(others)[:_REST])
        chosen = np.sort(rng.permutation(cells)[:_REST])
        used = np.union1d(chosen, rest)
        features = self.run.activations.rows(layer, self.mapped[used])
        if features.shape[1] != self.layers[layer].channels:
            raise RunError("this layer has no channels; choose another depth")
        return features, np.flatnonzero(np.isin(used, chosen))

    def _picture(self, image: NDArray[np.float32]) -> dict[str, Any]:
        crop = as_bytes(image[None], self.drawn)[0]
        return {"channels": self._encoded(crop), "colour": self.drawn.colour}

    def _encoded(self, crop: NDArray[np.uint8]) -> list[str]:
        """A crop (C, H, W) as PNGs in base64: one in colour, or one per image channel."""
        planes = [crop] if self.drawn.colour else [crop[c : c + 1] for c in range(len(crop))]
        return [base64.b64encode(png(plane)).decode("ascii") for plane in planes]

    def _on_map(self, method: str, layer: str, where: NDArray[np.float32]) -> list[list[float]]:
        """Places (n, 2) in the steps of the page's map, 0…65535, and outside of it."""
        from cytolens.explorer.content import on_square

        known = self.run.maps[method][layer].coordinates
        return np.round(on_square(where, known) * 65_535).astype(int).tolist()


def _direction(features: NDArray[np.float32], members: NDArray[np.int64]) -> NDArray[np.float64]:
    from cytolens.features.directions import whitened_directions

    if len(members) == 0 or len(members) == len(features):
        raise RunError("choose some of the cells, not none and not all")
    found = whitened_directions(features, [members])
    if not np.linalg.norm(found[0]) > 0:
        raise RunError("at this depth these cells are like all others; choose another depth")
    return found
