"""From dye in a cell to camera counts: what an imaging flow cytometer does to the light."""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import j1

from cytolens.errors import SettingError

Floats = NDArray[np.floating[Any]]
SATURATION = 4095  # counts, the largest value of a 12-bit camera
DEPTH_STEP = 2.5  # µm, distance of the planes that stand for the depth of a cell
_JINC_STEP = 1 / 128  # of the table of 2 J1(x) / x


@dataclass(frozen=True)
class Optics:
    """Lens, flow and camera of the simulated instrument; the defaults are a 60× flow imager.

    Photons and electrons are the same thing here: the quantum efficiency is in ``photons``.

    - ``na`` 0.9: numerical aperture of the 60× objective of the Amnis ImageStreamX.
    - ``wavelength_um`` 0.62: peak of propidium iodide emission, µm (the dye of the Jurkat crops).
    - ``refractive_index`` 1.33: of the sheath fluid, water.
    - ``pixel_size_um`` 0.33: µm in the object per pixel at 60× (0.5 at 40×, 1.0 at 20×; Amnis).
    - ``motion_blur_um`` 0.3: smear along the flow (the vertical image axis), µm. About a pixel:
      time-delay integration follows the flow, but not to less than its step. Chosen.
    - ``focus_sd_um`` 0.8: standard deviation of a cell's distance from the focal plane, µm. Chosen,
      so that sharp to blurred spans what the Jurkat crops show.
    - ``photons`` 3e6: detected from one nucleus at full brightness (Jurkat G1 crops: median 1.4e5
      counts above background, at the gain below).
    - ``brightness_cv`` 0.11: coefficient of variation of the stain from cell to cell (of the
      integrated intensity of the Jurkat G1 crops).
    - ``background`` 80: stray photons per pixel (a few counts; unbound dye, autofluorescence).
    - ``read_noise`` 40: electrons r.m.s. per pixel (Jurkat crops: 2.0 counts where it is dark).
    - ``gain`` 0.05: counts per electron (slope of variance against mean of the Jurkat crops: 0.046,
      straight from 40 to 850 counts).
    - ``offset`` 40: counts in darkness (Jurkat crops: 41, a little of it background).

    Raises SettingError if a value is negative, above 1e12, or zero where that makes no sense.
    Sources: ImageStreamX Mark II data sheet; Jurkat imaging-flow data of Blasi et al. 2016,
    Nat Commun 7:10256, measured (variance from second differences) where it says so.
    """

    na: float = 0.9
    wavelength_um: float = 0.62
    refractive_index: float = 1.33
    pixel_size_um: float = 0.33
    motion_blur_um: float = 0.3
    focus_sd_um: float = 0.8
    photons: float = 3e6
    brightness_cv: float = 0.11
    background: float = 80.0
    read_noise: float = 40.0
    gain: float = 0.05
    offset: float = 40.0

    def __post_init__(self) -> None:
        may_be_zero = ("motion_blur_um", "focus_sd_um", "brightness_cv", "background")
        may_be_zero += ("read_noise", "offset")
        for entry in fields(self):
            value = getattr(self, entry.name)
            allowed = "0 or more" if entry.name in may_be_zero else "more than 0"
            in_range = value >= 0 if entry.name in may_be_zero else value > 0
            if not (in_range and value <= 1e12):  # more would overflow the Poisson generator
                raise SettingError(
                    f"optics: {entry.name} is {value}; it must be {allowed}, to 1e12"
                )
        if self.na >= self.refractive_index:
            raise SettingError(
                f"optics: na is {self.na}; it must be below refractive_index, "
                f"{self.refractive_index}"
            )


@lru_cache(maxsize=1)
def _jinc_table() -> NDArray[np.float32]:
    """2 J1(x) / x for x = 0 … 256 in steps of ``_JINC_STEP``."""
    x = np.arange(1, round(256 / _JINC_STEP)) * _JINC_STEP
    return np.concatenate([[1.0], 2 * j1(x) / x]).astype(np.float32)


def transfer_functions(size: int, depths: Floats, optics: Optics) -> NDArray[np.float32]:
    """Optical transfer function at each distance from focus, laid out as rfft2 wants it.

    ``depths`` (n,) are in µm; returns (n, size, size // 2 + 1) float32, one at frequency zero.
    The in-focus function is that of a circular pupil; defocus follows Stokseth's approximation,
    with the exact wavefront error at the pupil's edge, n - sqrt(n² - NA²) per µm. Motion along the
    vertical axis and the square pixel each multiply by their sinc.
    Sources: Goodman, Introduction to Fourier Optics, section 6.4; Stokseth 1969, J Opt Soc Am 59,
    1314.
    """
    vertical = np.fft.fftfreq(size, optics.pixel_size_um)[:, None]  # cycles/µm
    horizontal = np.fft.rfftfreq(size, optics.pixel_size_um)[None, :]
    s = np.minimum(np.hypot(vertical, horizontal) * optics.wavelength_um / optics.na, 2.0)
    in_focus = (2 / np.pi) * (np.arccos(s / 2) - (s / 2) * np.sqrt(1 - (s / 2) ** 2))
    in_focus *= np.sinc(vertical * optics.motion_blur_um)
    in_focus *= np.sinc(vertical * optics.pixel_size_um) * np.sinc(
        horizontal * optics.pixel_size_um
    )
    edge = optics.refractive_index - np.sqrt(optics.refractive_index**2 - optics.na**2)
    scale = (4 * np.pi / optics.wavelength_um) * edge * s * (1 - s / 2) / _JINC_STEP
    table = _jinc_table()
    steps = np.abs(depths).astype(np.float32)[:, None, None] * scale.astype(np.float32)
    places = np.minimum(steps + 0.5, len(table) - 1).astype(np.int32)  # nearest table entry
    return table[places] * in_focus.astype(np.float32)


def through_lens(
    dye: Floats, moment_1: Floats, moment_2: Floats, defocus: Floats, optics: Optics
) -> Floats:
    """Image of a thick object, noiseless, (n, size, size), in the unit of ``dye``.

    ``dye`` is the object summed along the optical axis, ``moment_1`` and ``moment_2`` the same
    with each element weighted by z and z² (µm, from the middle of the cell), ``defocus`` (n,) the
    distance of the middle of the cell from the focal plane. The dependence of the transfer
    function on z is taken as the parabola through three planes ``DEPTH_STEP`` apart: parts of a
    nucleus lie in focus while others do not. Ringing below zero is cut off.
    """
    size = dye.shape[-1]
    near = transfer_functions(size, defocus - DEPTH_STEP, optics)
    middle = transfer_functions(size, defocus, optics)
    far = transfer_functions(size, defocus + DEPTH_STEP, optics)
    spectrum = _spectrum(dye) * middle
    spectrum += _spectrum(moment_1) * ((far - near) * np.float32(0.5 / DEPTH_STEP))
    spectrum += _spectrum(moment_2) * ((far + near - 2 * middle) * np.float32(0.5 / DEPTH_STEP**2))
    return _positive_image(spectrum, size)


def flat_through_lens(dye: Floats, defocus: Floats, optics: Optics) -> Floats:
    """As ``through_lens``, for an object (n, size, size) in the middle plane of the cell."""
    size = dye.shape[-1]
    return _positive_image(_spectrum(dye) * transfer_functions(size, defocus, optics), size)


def _spectrum(images: Floats) -> NDArray[np.complex64]:
    return np.asarray(fft.rfft2(images), dtype=np.complex64)


def _positive_image(spectrum: NDArray[np.complex64], size: int) -> NDArray[np.float32]:
    image = np.asarray(fft.irfft2(spectrum, s=(size, size)), dtype=np.float32)
    return np.maximum(image, 0, out=image)


def expose(
    photons: Floats,
    optics: Optics,
    draw: np.random.Generator,
    *,
    added: tuple[Floats, np.random.Generator] | None = None,
) -> NDArray[np.uint16]:
    """Camera counts for an expected number of photons per pixel, both (n, H, W).

    Photon noise is Poisson, read noise Gaussian; counts are rounded and end at 0 and 4095.
    Hence variance = gain · (mean - offset) + (gain · read_noise)² + 1/12 (Janesick 2007, Photon
    Transfer, chapter 5). ``added``: more photons (n, H, W), with random numbers of their own; the
    same noise then lies over the rest of the picture with and without them.
    """
    electrons = draw.poisson(photons + optics.background).astype(np.float32)
    if added is not None:
        electrons += added[1].poisson(added[0])
    electrons += optics.read_noise * draw.standard_normal(photons.shape, dtype=np.float32)
    counts = electrons * np.float32(optics.gain) + np.float32(optics.offset)
    return np.clip(np.rint(counts), 0, SATURATION).astype(np.uint16)
