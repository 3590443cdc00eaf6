"""t-SNE in time linear in the number of cells, in PyTorch: the same code for CPU and GPU.

Attraction goes over the pairs of neighbours. Repulsion is half the gradient of the potential
φ(y) = Σ 1 / (1 + |y - yⱼ|²), which is smooth: cells are spread over a grid by cubic B-splines,
convolved with the kernel by one forward and one inverse FFT, and read back with the splines'
derivatives. The normalisation Z is the sum of the potential over the cells. For few cells on a CPU
all pairs are summed instead, as matrices.

Sources: t-SNE, van der Maaten & Hinton 2008, JMLR 9; the grid, Linderman et al. 2019, Nature
Methods 16 (there with polynomials and four inverse transforms); splines with their own
deconvolution, Essmann et al. 1995, J. Chem. Phys. 103; the optimiser, Policar, Strazar & Zupan
2024, J. Stat. Software 109 (openTSNE), whose maps the tests compare with.

This file and `on_gpu` alone of this room need torch; `methods.tsne` loads them on first use.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil, log, pi

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
from torch import Tensor

from cytolens.numerics.threads import limited_threads

SPACING = 0.5
"""Of the grid, in the map's units. Forces are then as near to the exact ones as with openTSNE's
interpolation, on a grid of 2.25 times fewer points."""

ALL_PAIRS_UP_TO = 1200
"""Cells up to which a CPU takes all pairs instead of neighbours and a grid: few calls on matrices
that its cache holds are then the quicker."""

FEWEST_POINTS = 64  # of the grid along a side: small maps get a finer grid
BLOCK = 131_072  # pairs at a time on a CPU: few calls, and what they compute stays in its cache
BLOCK_ON_GPU = 1 << 24  # pairs at a time on a GPU: few calls, and little padding
PAIRS_PER_THREAD = 1_000_000  # fewer are not worth waking a thread for
MOMENTUM = 0.8
LONGEST_STEP = 5.0  # of one cell in one iteration, in the map's units
SMALLEST = 1e-4
"""Root mean square distance from the centre below which a map is enlarged to this. Exaggeration
shrinks a map of weak structure without end, and in float32 it would never grow back. So small a map
moves by linear forces, to 1e-8: its size means nothing, and only its shape goes on."""


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix by rows, on a device."""

    starts: Tensor  # (N + 1,), int64, where each row starts
    columns: Tensor  # (entries,), int64
    values: Tensor  # (entries,), float32


@dataclass(frozen=True)
class Phase:
    """Some iterations with one exaggeration of the affinities."""

    iterations: int
    exaggeration: float


def optimise(
    joint: csr_matrix | SparseRows,
    start: NDArray[np.floating],
    phases: Sequence[Phase],
    *,
    threads: int = 1,
    device: str | None = None,
    callback: Callable[[int, int, NDArray[np.float32]], None] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """The map (N, 2) that gradient descent finds from ``start`` (N, 2), and its KL divergence.

    ``joint``: symmetric affinities of sum 1, (N, N). Learning rate N / exaggeration (Belkina et al.
    2019, Nature Communications 10), with gains and momentum 0.8, in float32. ``callback`` is
    called every ten iterations: those done, in all, and the places (N, 2). On a CPU the same start
    and threads give the same bytes; on a GPU sums on the grid come in any order.
    """
    place = torch.device(device or "cpu")
    y = torch.from_numpy(np.array(start, dtype=np.float32).T.copy()).to(place)  # (2, N)
    few = place.type == "cpu" and y.shape[1] <= ALL_PAIRS_UP_TO
    forces = _AllPairs(joint) if few and isinstance(joint, csr_matrix) else _Forces(joint, place)
    gains = torch.ones_like(y)
    count, done = sum(phase.iterations for phase in phases), 0
    threads = min(threads, 1 + forces.pairs // PAIRS_PER_THREAD)
    # Each worker is one thread; the transforms between their turns take as many.
    pool = ThreadPoolExecutor(threads, initializer=threadpool_limits, initargs=(1, "openmp"))
    with limited_threads(threads), pool as workers:
        for phase in phases:
            rate = y.shape[1] / phase.exaggeration
            step = torch.zeros_like(y)
            for _ in range(phase.iterations):
                if callback is not None and done % 10 == 0:
                    callback(done, count, _places(y))
                gradient = forces(y, phase.exaggeration, workers, threads)
                turned = torch.sign(step) != torch.sign(gradient)
                gains = torch.where(turned, gains + 0.2, gains * 0.8 + 0.01)
                step = MOMENTUM * step - rate * gains * gradient
                length = torch.hypot(step[0], step[1]).clamp_(min=1e-12)
                step *= (LONGEST_STEP / length).clamp_(max=1)
                y = y + step
                y = y - y.mean(dim=1, keepdim=True)
                spread = float(y.square().sum(dim=0).mean().sqrt())
                if 0 < spread < SMALLEST:
                    y, step = y * (SMALLEST / spread), step * (SMALLEST / spread)
                done += 1
        return _places(y), forces.divergence(y)


def _places(y: Tensor) -> NDArray[np.float32]:
    return y.T.cpu().contiguous().numpy()


class _AllPairs:
    """The gradient over all pairs, for few cells: Σⱼ (e pᵢⱼ - qᵢⱼ / Z) qᵢⱼ (yᵢ - yⱼ)."""

    def __init__(self, joint: csr_matrix) -> None:
        self._p = torch.from_numpy(joint.toarray().astype(np.float32))  # (N, N)
        self._q, self._forces = torch.empty_like(self._p), torch.empty_like(self._p)
        self._ones = torch.ones(len(self._p))
        self.pairs = joint.nnz

    def __call__(
        self, y: Tensor, exaggeration: float, workers: ThreadPoolExecutor, threads: int
    ) -> Tensor:
        """The gradient (2, N) at places y (2, N)."""
        z = self._near(y)
        torch.add(self._p, self._q, alpha=-1 / (exaggeration * z), out=self._forces)
        sums = torch.vstack([y, self._ones]) @ self._forces.mul_(self._q)  # symmetric
        return (sums[2] * y).sub_(sums[:2]).mul_(exaggeration)

    def _near(self, y: Tensor) -> float:
        """Fills in q, 1 / (1 + distance²) but 0 of a cell with itself, and gives its sum Z."""
        squares = y.square().sum(dim=0)
        left = torch.vstack([-2 * y, self._ones, squares + 1])
        torch.mm(left.T, torch.vstack([y, squares, self._ones]), out=self._q)
        self._q.clamp_(min=1).reciprocal_().fill_diagonal_(0)
        return max(float(self._q.sum()), 1e-12)

    def divergence(self, y: Tensor) -> float:
        """The KL divergence of the map."""
        z = self._near(y)
        spent = torch.xlogy(self._p, self._p).sub_(torch.xlogy(self._p, self._q))
        return float(spent.sum(dtype=torch.float64)) + log(z)


class _Forces:
    """The gradient for many cells: neighbours attract, a grid repels."""

    def __init__(self, joint: csr_matrix | SparseRows, device: torch.device) -> None:
        self._attraction, self._repulsion = _Attraction(joint, device), _Repulsion(device)
        self.pairs = self._attraction.pairs

    def __call__(
        self, y: Tensor, exaggeration: float, workers: ThreadPoolExecutor, threads: int
    ) -> Tensor:
        """The gradient (2, N) at places y (2, N)."""
        pull = self._attraction(y, workers, threads)
        push, z = self._repulsion(y)
        return exaggeration * pull - push / z

    def divergence(self, y: Tensor) -> float:
        """The KL divergence of the map."""
        return self._attraction.divergence(y) + log(self._repulsion(y)[1])


class _Attraction:
    """Σⱼ pᵢⱼ qᵢⱼ (yᵢ - yⱼ) over the neighbours of each cell, q = 1 / (1 + distance²).

    Cells are taken in the order of how many neighbours they have, in blocks that are padded to
    rectangles: sums then run along rows, and each cell is written once.
    """

    def __init__(self, joint: csr_matrix | SparseRows, device: torch.device) -> None:
        block = BLOCK if device.type == "cpu" else BLOCK_ON_GPU
        rows = joint if isinstance(joint, SparseRows) else _rows(joint, device)
        self.pairs = len(rows.values)
        degrees = rows.starts.diff()
        order = degrees.argsort(stable=True)
        ascending = degrees[order].clamp(min=1).cpu().numpy()
        self._blocks: list[tuple[Tensor, Tensor, Tensor]] = []  # cells (r,), their (r w,), p (r, w)
        first = 0
        while first < len(order):
            sizes = ascending[first : first + block]
            room = np.arange(1, len(sizes) + 1) * sizes <= block
            last = first + max(1, int(room.argmin()) if not room.all() else len(room))
            cells, width = order[first:last], int(sizes[last - first - 1])
            columns = torch.arange(width, device=device)
            real = columns < degrees[cells][:, None]
            at = torch.where(real, rows.starts[cells][:, None] + columns, 0)
            others = torch.where(real, rows.columns[at], cells[:, None]).int()
            p = torch.where(real, rows.values[at], 0)
            self._blocks.append((cells, others.view(-1), p))
            first = last
        self._one = torch.ones((), device=device)
        self._largest = max((len(others) for _, others, _ in self._blocks), default=0)

    def __call__(self, y: Tensor, workers: ThreadPoolExecutor, threads: int) -> Tensor:
        """The attraction of each cell (2, N)."""
        left, up = y
        across, along = pull = torch.empty_like(y)

        def work(share: int) -> None:
            rooms = torch.empty((3, self._largest), device=y.device)  # asked for once: it is slow
            for cells, others, p in self._blocks[share::threads]:
                dx, dy, q = (room[: len(others)] for room in rooms)
                torch.index_select(left, 0, others, out=dx)
                torch.index_select(up, 0, others, out=dy)
                dx, dy, q = dx.view_as(p), dy.view_as(p), q.view_as(p)
                dx.sub_(left.index_select(0, cells)[:, None])
                dy.sub_(up.index_select(0, cells)[:, None])
                torch.addcmul(self._one, dx, dx, out=q).addcmul_(dy, dy)
                torch.div(p, q, out=q)
                across.index_copy_(0, cells, dx.mul_(q).sum(dim=1).neg_())
                along.index_copy_(0, cells, dy.mul_(q).sum(dim=1).neg_())

        if threads == 1:
            work(0)
        else:
            list(workers.map(work, range(threads)))
        return pull

    def divergence(self, y: Tensor) -> float:
        """Σ p log p - p log q over the pairs: with log Z, the KL divergence."""
        spent = 0.0
        for cells, others, p in self._blocks:
            away = y.index_select(1, others).view(2, *p.shape) - y[:, cells, None]
            squared = away.square().sum(dim=0)
            spent += float((torch.xlogy(p, p) + p * torch.log1p(squared)).sum(dtype=torch.float64))
        return spent


def _rows(joint: csr_matrix, device: torch.device) -> SparseRows:
    parts = (
        joint.indptr.astype(np.int64),
        joint.indices.astype(np.int64),
        joint.data.astype(np.float32),
    )
    return SparseRows(*(torch.from_numpy(part).to(device) for part in parts))


class _Repulsion:
    """Σⱼ qᵢⱼ² (yᵢ - yⱼ) and Z = Σ qᵢⱼ over all pairs, through a grid."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._points, self._spacing = 0, 0.0

    def __call__(self, y: Tensor) -> tuple[Tensor, float]:
        """The repulsion of each cell (2, N), and Z."""
        low, high = y.amin(dim=1, keepdim=True), y.amax(dim=1, keepdim=True)
        self._fit(float((high - low).max()))
        n, count = self._points, y.shape[1]
        at = (y - (low + high) / 2) / self._spacing + (n - 1) / 2
        corner = at.floor()
        (left, up), (left_slope, up_slope) = _splines(at - corner)  # (4, N) each
        first = (corner[0].long() - 1) * n + corner[1].long() - 1
        places = (first + self._around).view(-1)  # (4 × 4 × N,)
        density = torch.zeros(n * n, device=self._device)
        density.index_add_(0, places, (left[:, None] * up).view(-1))
        # Twice as wide, so that the map does not meet its own image; only what is needed of it.
        rows = torch.fft.rfft(density.view(n, n), n=2 * n)
        spectrum = torch.fft.fft(rows, n=2 * n, dim=0).mul_(self._kernel)
        rows = torch.fft.ifft(spectrum, dim=0)[:n]
        potential = torch.fft.irfft(rows, n=2 * n)[:, :n].reshape(-1)
        z = float((density * potential).sum(dtype=torch.float64))
        around = potential.index_select(0, places).view(4, 4, count)
        along = (around * up_slope).sum(dim=1).mul_(left).sum(dim=0)
        across = (around.mul_(up)).sum(dim=1).mul_(left_slope).sum(dim=0)
        push = torch.stack([across, along]) * (-0.5 / self._spacing)
        return push, max(z + self._shift * count**2 - count, 1e-12)  # none repels itself

    def _fit(self, extent: float) -> None:
        """A grid for a map of this extent: the one at hand, where it is neither short nor vast."""
        spacing = SPACING
        while extent < (FEWEST_POINTS / 2) * spacing and spacing > 1e-12:
            spacing /= 2
        needed = max(FEWEST_POINTS, ceil(extent / spacing) + 6)
        if spacing == self._spacing and needed <= self._points < 1.5 * needed + FEWEST_POINTS:
            return
        n = _smooth(ceil(1.05 * needed))
        m = 2 * n
        steps = torch.arange(m, dtype=torch.float64)
        away = torch.minimum(steps, m - steps) * spacing
        # A constant exerts no force. Without it the potential of a tiny map is not lost in the
        # digits of its mean.
        side = (n * spacing) ** 2
        shift = 1 / (1 + side)
        squared = away[:, None] ** 2 + away**2
        kernel = torch.fft.rfft2((side - squared) / (1 + squared) * shift).real
        spline = (2 + torch.cos(2 * pi * steps / m)) / 3  # what a B-spline does to a wave
        kernel /= (spline[:, None] * spline[: n + 1]) ** 2
        self._points, self._spacing, self._shift = n, spacing, shift
        steps = torch.arange(4, device=self._device)
        self._around = (steps[:, None] * n + steps)[:, :, None]  # (4, 4, 1)
        self._kernel = kernel.float().to(self._device)


def _splines(t: Tensor) -> tuple[Tensor, Tensor]:
    """Cubic B-splines at the four grid points around, and their slopes, (2, 4, N); t (2, N) 0…1."""
    s, t2, t3 = 1 - t, t * t, t * t * t
    third = (3 * t3 - 6 * t2 + 4) / 6, (-3 * t3 + 3 * t2 + 3 * t + 1) / 6
    values = torch.stack([s * s * s / 6, *third, t3 / 6], dim=1)
    slopes = torch.stack([-s * s / 2, 1.5 * t2 - 2 * t, -1.5 * t2 + t + 0.5, t2 / 2], dim=1)
    return values, slopes


def _smooth(n: int) -> int:
    """The least whole number from ``n`` on without prime factors over 5: FFTs are fast there."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
