"""What is installed, what the machine has, and why some data are not read; loads no torch."""

import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import cytolens
from cytolens.errors import InputError
from cytolens.numerics.machine import cores, memory

EXTRAS = {
    "umap": ("umap", "maps by UMAP"),
    "pacmap": ("pacmap", "maps by PaCMAP"),
    "captum": ("captum", "cytolens validate: baselines"),
    "cluster": ("distributed", "--scheduler: parts of a study made by Dask"),
    "yaml": ("yaml", "model cards in YAML, rdf.yaml of bioimage.io"),
    "timm": ("timm", "--model timm:NAME"),
    "hf": ("transformers", "--model hf:REPO"),
    "onnx": ("onnxscript", "export --to onnx"),
    "bioimageio": ("onnxscript", "export --to bioimageio"),
    "fcs": ("flowio", "features of CIF cells in FCS files"),
    "napari": ("napari", "runs in napari"),
    "notebook": ("anywidget", "the explorer as a widget"),
}
"""Optional libraries: the module that shows them, and what needs them."""

_LEAST_MEMORY = 3  # GiB, of a whole study of some thousand cells
_LEAST_DISK = 2  # GiB
_GIB = 1 << 30


def examine(data: str | Path | None = None) -> list[tuple[str, str, str]]:
    """Lines of (what, what there is, what to do about it; empty where all is well)."""
    lines = [*_libraries(), *_machine(), *_extras()]
    if data is not None:
        lines += explain(Path(data).expanduser())
    return lines


def _libraries() -> list[tuple[str, str, str]]:
    lines = [
        ("cytolens", f"{cytolens.__version__} in {Path(cytolens.__path__[0])}", ""),
        ("Python", f"{platform.python_version()} in {sys.executable}", ""),
    ]
    try:
        needed = requires("cytolens") or []
    except PackageNotFoundError:  # run from its source
        lines.append(("packages", "not known", "pip install cytolens, or pip install -e ."))
        needed = []
    for wanted in needed:
        name = wanted.split(";")[0]
        if "extra ==" in wanted:
            continue
        bare = name[: next((i for i, c in enumerate(name) if c in "<>=!~ ["), len(name))]
        try:
            found = version(bare)
        except PackageNotFoundError:
            lines.append((bare, "missing", f"pip install '{name.strip()}'"))
            continue
        lines.append((bare, found, _outside(name.strip()[len(bare) :], found, bare)))
    return lines


def _outside(allowed: str, found: str, name: str) -> str:
    """What to do where a version is not one of those allowed."""
    from packaging.specifiers import SpecifierSet

    if found in SpecifierSet(allowed.strip(), prereleases=True):
        return ""
    return f"cytolens is made for {name}{allowed.strip()}: pip install '{name}{allowed.strip()}'"


def _machine() -> list[tuple[str, str, str]]:
    lines = [
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}", ""),
        ("cores", f"{cores()} usable of {os.cpu_count()}", ""),
    ]
    total, free = memory()
    if total is not None and free is not None:
        advice = "" if free >= _LEAST_MEMORY * _GIB else "a whole study wants 3 GiB; try --quick"
        lines.append(("memory", f"{free / _GIB:.1f} GiB free of {total / _GIB:.1f}", advice))
    for name, place in (("disk, here", Path.cwd()), ("disk, temporary", tempfile.gettempdir())):
        left = shutil.disk_usage(place).free
        advice = (
            "" if left >= _LEAST_DISK * _GIB else "a run takes a few times the size of its data"
        )
        lines.append((name, f"{left / _GIB:.1f} GiB free at {place}", advice))
    lines += _torch()
    return lines


def _torch() -> list[tuple[str, str, str]]:
    """What the network is run on; asked of torch itself, in the words of its settings."""
    if find_spec("torch") is None:
        return [("network", "PyTorch is missing", "pip install torch")]
    import torch

    from cytolens.activations.forward import computes_bfloat16

    gpu = "none that PyTorch can use"
    advice = ""
    if torch.cuda.is_available():
        named = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        gpu = f"{', '.join(named)} (CUDA {torch.version.cuda})"
    elif shutil.which("nvidia-smi"):
        advice = "there is an NVIDIA driver: install a CUDA build of PyTorch to use its GPU"
    on_gpu = torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else computes_bfloat16()
    return [
        ("GPU", gpu, advice),
        ("bf16", "in hardware" if fast else "not in hardware: float32 is as fast", ""),
        ("instructions", torch.backends.cpu.get_cpu_capability(), ""),
        ("threads", f"{torch.get_num_threads()} that PyTorch would take", ""),
    ]


def _extras() -> list[tuple[str, str, str]]:
    lines: list[tuple[str, str, str]] = []
    for extra, (module, purpose) in EXTRAS.items():
        there = find_spec(module) is not None
        lines.append(
            (
                f"extra {extra}",
                "there" if there else f"not installed ({purpose})",
                "" if there else f"pip install 'cytolens[{extra}]'",
            )
        )
    return lines


def explain(path: Path) -> list[tuple[str, str, str]]:
    """What would be read at ``path``, and what is in the way."""
    from cytolens.images.isolation import isolated
    from cytolens.images.reading import find_cells, locate

    try:
        kind, place = locate(path)
    except InputError as error:
        return [("data", "not read", str(error)), *_by_content(path)]
    lines = [("data", f"{place}: read as {_KINDS.get(kind, kind)}", "")]
    try:
        with isolated():
            found = find_cells(path, None)
    except InputError as error:
        return [*lines, ("cells", "none", str(error)), *_by_content(path)]
    counts = ", ".join(
        f"{name} {int((found.labels == i).sum())}" for i, name in enumerate(found.class_names)
    )
    lines.append(("cells", f"{len(found.labels)} before they are checked ({counts})", ""))
    lines += [("understood", remark, "") for remark in found.remarks]
    lines += [("left out", f"{bad.name} {bad.reason}", "") for bad in found.skipped[:5]]
    return lines


_KINDS = {
    "folder": "a folder of images",
    "bsccm": "the data of Berkeley Single Cell Computational Microscopy",
    "fields": "a table of cells in field images",
    "manifest": "a table of crops",
    "stack": "a stack of TIFF pages",
    "image": "one image",
    "cells": "a file of many cells",
    "metadata": "an image folder with metadata",
}

_STARTS = {
    b"\x89HDF": "HDF5",
    b"PK\x03\x04": "a ZIP archive (an .npz is one; unpack any other)",
    b"\x1f\x8b": "gzip: unpack it",
    b"BZh": "bzip2: unpack it",
    b"7z\xbc\xaf": "7-Zip: unpack it",
    b"%PDF": "a PDF",
    b"GIF8": "a GIF: save its pictures as PNG or TIFF",
    b"RIFF": "WebP or another RIFF file: save its pictures as PNG or TIFF",
    b"\xff\x4f\xff\x51": "JPEG 2000: save its pictures as PNG or TIFF",
    b"\x80\x02": "a Python pickle, which is not read: it can run code",
    b"\x80\x04": "a Python pickle, which is not read: it can run code",
    b"\x80\x05": "a Python pickle, which is not read: it can run code",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
    b"<!DOCTYPE": "a web page, perhaps of a download that failed",
    b"<html": "a web page, perhaps of a download that failed",
}


def _by_content(path: Path) -> list[tuple[str, str, str]]:
    """What a file is by its first bytes, where its name says something else."""
    from cytolens.images.opening import check_file

    try:
        size = check_file(path)
        with path.open("rb") as file:
            start = file.read(24)
    except (InputError, OSError):
        return []
    known = next((what for first, what in _STARTS.items() if start.startswith(first)), None)
    if size == 0:
        known = "empty"
    return [("content", f"looks like {known}" if known else "not known by its first bytes", "")]
