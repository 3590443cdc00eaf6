"""Feature images and what is made of them as ImageJ hyperstacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.records.contrast import Contrasts
from cytolens.records.features import FeatureImages, ModulatedImages
from cytolens.store.files import file_name, replacing_folder

_LISTED = "stacks.txt"


def write_image_stacks(
    folder_path: Path,
    galleries: Sequence[FeatureImages],
    modulated: Sequence[ModulatedImages],
    contrasts: Contrasts | None = None,
    *,
    channel_names: Sequence[str],
    pixel_size: float | None,
) -> Path:
    """A folder of TIFF files, float32: one per layer and kind of image; gives its path.

    ``<layer>-feature_images.tif`` and ``<layer>-modulated_images.tif`` are (target, C, H, W) in
    prepared intensities, ``<layer>-gain.tif`` and ``<layer>-salient.tif`` are (target, H, W), 0…1,
    the second where it was made. ``<target>-pairs.tif`` has less and more of each pair of real
    cells in turn, ``<target>-series.tif`` the five steps of each series, ``<target>-edits.tif``
    less, the cell and more of each cell that was edited. Targets are ImageJ's slices; each plane is
    labelled with its target, and with its image channel where there are several.
    ``pixel_size`` is in µm. ``stacks.txt`` lists the files. An earlier export is replaced. Raises
    SettingError for a folder that holds other things, RunError when it cannot be written.
    """
    stacks: list[tuple[str, str, tuple[str, ...], NDArray[np.float32]]] = [
        *((found.layer, "feature_images", found.targets, found.images) for found in galleries),
        *((found.layer, "modulated_images", found.targets, found.images) for found in modulated),
        *((found.layer, "gain", found.targets, found.gain[:, None]) for found in modulated),
        *(
            (found.layer, "salient", found.targets, found.salient[:, None])
            for found in modulated
            if found.salient is not None
        ),
    ]
    for pairs in () if contrasts is None else contrasts.pairs:
        series, edits = pairs.series, pairs.edits
        both = np.stack([pairs.less, pairs.more], axis=1)
        shown: list[tuple[str, str, tuple[str, ...], NDArray[np.float32]]] = [
            ("pairs", "pair", ("less", "more"), both)
        ]
        if series is not None:
            steps = tuple(f"step {step + 1}" for step in range(series.images.shape[1]))
            shown.append(("series", "series", steps, series.images))
        if edits is not None:
            three = np.stack([edits.less, edits.start, edits.more], axis=1)
            shown.append(("edits", "cell", ("less", "the cell", "more"), three))
        for kind, one, sides, images in shown:
            labels = tuple(f"{one} {i + 1} {side}" for i in range(len(images)) for side in sides)
            stacks.append((pairs.target.name, kind, labels, images.reshape(-1, *images.shape[2:])))
    written: dict[str, tuple[int, ...]] = {}
    with replacing_folder(folder_path, knows=(_LISTED,)) as temporary:
        for layer, kind, targets, images in stacks:
            if not len(images):
                continue
            name = f"{file_name(layer)}-{kind}"
            again = sum(known.startswith(name) for known in written)
            name = f"{name}-{again + 1}" if again else name
            channels = channel_names if images.shape[1] > 1 else ("",)
            labels = [f"{target} {c}".strip() for target in targets for c in channels]
            _write_stack(temporary / f"{name}.tif", images, labels, pixel_size)
            written[f"{name}.tif"] = images.shape
        lines = [f"{name}\t{' × '.join(map(str, shape))}\n" for name, shape in written.items()]
        (temporary / _LISTED).write_text("".join(lines), encoding="utf-8")
    return folder_path


def _write_stack(
    path: Path, images: NDArray[np.float32], labels: list[str], pixel_size: float | None
) -> None:
    """(slice, channel, height, width) with a label per plane. Source: tifffile, ``imwrite``."""
    from tifffile import imwrite

    known: dict[str, Any] = {"axes": "ZCYX", "Labels": labels, "mode": "grayscale"}
    density = None
    if pixel_size is not None:
        known["unit"], density = "um", (1 / pixel_size, 1 / pixel_size)
    pixels = np.ascontiguousarray(images, dtype=np.float32)
    imwrite(path, pixels, imagej=True, metadata=known, resolution=density)
