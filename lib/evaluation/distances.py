"""Fréchet distance (FID) and kernel distance (KID) of features, with jackknife intervals.

FID = |m₁ - m₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½ (Heusel et al. 2017), all in float64. No matrix
square root is taken and no covariance formed: with factors Σ = RᵀR from QR decompositions, the
covariance part is the squared distance of R₁ and R₂ after the rotation that brings them closest
(orthogonal Procrustes), a sum of squares: real, never negative, and exact where fewer images than
features leave Σ singular.

Its interval is that of the infinitesimal jackknife (Jaeckel 1972; Efron & Tibshirani 1993, ch. 21):
one decomposition gives the influence of every image, that is the derivative of FID with respect to
its weight, and the variance is the sum of the squares. Leaving images out and decomposing again, as
in ch. 11, gives the same to a few percent on normal features; on skewed ones up to a sixth less at
1 to 8 images a feature and up to a third less below. Both err on the wide side (Efron & Stein
1981): on normal features this one by 1 to 10 % at 10 to 20 images a feature, 15 to 35 % at fewer.
A bootstrap would not do: its resamples repeat images, so that each has fewer distinct ones and the
bias c/n of FID comes in a second time.

KID is the squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018).
Its estimate is unbiased at any n, so that sets of different size may be compared; near 0 it may
be negative. Its interval leaves out groups of images in turn, of sets of one size the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.utils import gen_batches

from lib.common.errors import StudyError
from lib.common.seeds import numpy_generator
from lib.evaluation.matrices import Matrix, Points, as_points
from lib.evaluation.products import Products, products

ROWS = 8192  # rows that are decomposed at once
PROJECTED = 1024  # rows that are projected at once; they stay in the processor's cache


@dataclass(frozen=True)
class Moments:
    """Count, mean `(d,)` and a factor R `(k, d)` with RᵀR = Σ (x - mean)(x - mean)ᵀ."""

    n: int
    mean: np.ndarray
    factor: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> "Moments":
        """Return the moments of features `(n, d)`, whatever n and d."""
        mean = features.mean(axis=0, dtype=np.float64)
        factor = np.empty((0, features.shape[1]))
        for rows in gen_batches(len(features), ROWS):
            factor = _reduced([factor, features[rows] - mean])
        return Moments(len(features), mean, factor)

    @staticmethod
    def merged(parts: Sequence["Moments"]) -> "Moments":
        """Return the moments of the union of disjoint sets."""
        n = sum(part.n for part in parts)
        mean = sum(part.n / n * part.mean for part in parts)
        rows = [np.sqrt(part.n) * (part.mean - mean)[None] for part in parts]
        return Moments(n, mean, _reduced([part.factor for part in parts] + rows))

    @property
    def root(self) -> np.ndarray:
        """R with RᵀR = Σ, the covariance."""
        return self.factor / np.sqrt(self.n - 1)

    def distance(self, other: "Moments") -> float:
        """Return the Fréchet distance of two normal distributions with these moments."""
        shared = np.linalg.svd(self.root @ other.root.T, compute_uv=False)
        return self._distance(other, shared.sum())

    def derivative(self, other: "Moments") -> tuple[float, list["Quadratic"]]:
        """Return the Fréchet distance and how it changes with the weight of each side's images.

        With R₁R₂ᵀ = U S Vᵀ, the derivative of tr (Σ₁ Σ₂)^½ with respect to Σ₁ is ½ WᵀW with
        W = S^-½ Vᵀ R₂, to Σ₂ the same with W = S^-½ Uᵀ R₁; where S is 0 it is left out, because
        there no change of the weights changes it.
        """
        u, s, vt = np.linalg.svd(self.root @ other.root.T, full_matrices=False)
        held = s > s[0] * max(len(u), vt.shape[1]) * np.finfo(np.float64).eps
        scale, shift = 1 / np.sqrt(s[held, None]), 2 * (self.mean - other.mean)
        first = Quadratic(self.mean, shift, (scale * vt[held]) @ other.root)
        second = Quadratic(other.mean, -shift, (scale * u.T[held]) @ self.root)
        return self._distance(other, s.sum()), [first, second]

    def _distance(self, other: "Moments", shared: float) -> float:
        """Return the distance, given the trace of (Σ₁ Σ₂)^½."""
        apart = np.sum((self.mean - other.mean) ** 2) + np.sum(self.root**2) + np.sum(other.root**2)
        return float(max(apart - 2 * shared, 0.0))


@dataclass(frozen=True)
class Quadratic:
    """The function x ↦ |x - mean|² - |W (x - mean)|² + shift·(x - mean)."""

    mean: np.ndarray
    shift: np.ndarray
    w: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return its values `(n,)` at features `(n, d)`, less their mean, in the features' type."""
        found = np.empty(len(features))
        mean, shift, w = (part.astype(features.dtype) for part in (self.mean, self.shift, self.w.T))
        for rows in gen_batches(len(features), PROJECTED):
            x = features[rows] - mean
            found[rows] = _squares(x) - _squares(x @ w) + x @ shift
        return found - found.mean()


def _squares(matrix: np.ndarray) -> np.ndarray:
    """Return the squared lengths of rows `(n,)`."""
    return np.einsum("ij,ij->i", matrix, matrix)


def _reduced(rows: list[np.ndarray]) -> np.ndarray:
    """Return R `(min(n, d), d)` of the QR decomposition of the stacked rows `(n, d)`."""
    return np.linalg.qr(np.concatenate(rows), mode="r")


def frechet_distance(features: Matrix, reference: Matrix) -> float:
    """Return the Fréchet distance of features `(n, d)` and `(m, d)`; n, m ≥ 2."""
    first, second = map(_moments, as_points(features, reference))
    return first.distance(second)


def frechet_estimate(
    features: Matrix, reference: Matrix, *, confidence: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """Return `fid` and, at infinite n, `fid_infinite`, each with an interval `_low`, `_high`.

    FID of finite sets is too large by about c/n. As in Chong & Forsyth 2020, the line through FID
    against 1/n is read at 1/n = 0; here through two points, FID of both sets and the mean of FID of
    their random halves: 2 FID(n) - FID(n/2), the estimate of Quenouille 1956. It is NaN where a
    half has not more images than features. The interval of FID is one for sets of this size. Ends
    are NaN for fewer than 4 images.
    """
    pair = as_points(features, reference)
    n, d = min(map(len, pair)), pair[0].matrix.shape[1]
    halves = [_halves(points, seed) for points in pair] if n // 2 > d else []
    fid, slopes = _moments(pair[0]).derivative(_moments(pair[1]))
    influences = [slope(points.matrix) for slope, points in zip(slopes, pair, strict=True)]
    infinite, changed = np.nan, influences
    if halves:
        infinite, changed = 2 * fid, [2 * influence for influence in influences]
        for sides in zip(*halves, strict=True):
            value, slopes = sides[0][1].derivative(sides[1][1])
            infinite -= value / 2
            for change, slope, points, (rows, _) in zip(changed, slopes, pair, sides, strict=True):
                change[rows] -= slope(points.matrix[rows])
    reach = stats.norm.ppf((1 + confidence) / 2) if n > 3 else np.nan
    ends = [reach * _standard_error(part) for part in (influences, changed)]
    found = {
        "fid": fid,
        "fid_low": max(fid - ends[0], 0.0),
        "fid_high": fid + ends[0],
        "fid_infinite": infinite,
        "fid_infinite_low": infinite - ends[1],
        "fid_infinite_high": infinite + ends[1],
    }
    return {name: float(value) for name, value in found.items()}


def _moments(points: Points) -> Moments:
    """Return the moments of a set, taken once."""
    return points.kept("moments", lambda: Moments.of(points.matrix))


def _halves(points: Points, seed: int) -> list[tuple[np.ndarray, Moments]]:
    """Return the rows and the moments of two random halves of a set, taken once."""

    def take() -> list[tuple[np.ndarray, Moments]]:
        order = numpy_generator(seed, "frechet halves").permutation(len(points))
        halves = map(np.sort, np.array_split(order, 2))
        found = [(rows, Moments.of(points.matrix[rows])) for rows in halves]
        points.kept("moments", lambda: Moments.merged([moments for _, moments in found]))
        return found

    return points.kept(("halves", seed), take)


def _standard_error(influences: list[np.ndarray]) -> float:
    """Return the infinitesimal jackknife's standard error, two independent sets' influences given.

    Those of a set are derivatives with respect to the weight of an image, times n.
    """
    return sum(part @ part / (len(part) * (len(part) - 1)) for part in influences) ** 0.5


@dataclass(frozen=True)
class Design:
    """Which images of two sets of sizes n, m form the groups and the subsets of KID."""

    sizes: tuple[int, int]
    groups: int
    subsets: int
    subset_size: int
    seed: int

    @staticmethod
    def of(pair: list[Points], groups: int, subsets: int, subset_size: int, seed: int) -> "Design":
        """Return a design that fits the sets: groups of two images at least, 2 of them at least."""
        sizes = len(pair[0]), len(pair[1])
        if min(sizes) < 4:
            raise StudyError(f"{min(sizes)} images are too few for KID: take 4 at least")
        groups = max(2, min(groups, min(sizes) // 2))
        return Design(sizes, groups, subsets, min(subset_size, *sizes), seed)

    def products(self, pair: list[Points], neighbours: int = 1) -> Products:
        """Return sums of kernels over groups and subsets, and who is whose neighbour."""
        marks = [mark.astype(pair[0].matrix.dtype) for mark in self.marks()]
        return products(pair, marks, neighbours, [(self, side) for side in range(2)])

    def marks(self) -> list[np.ndarray]:
        """Return `(n, groups + subsets)` and `(m, …) bool`: subsets are those of torch-fidelity."""
        rng = np.random.RandomState(self.seed % 2**32)
        marks = [np.zeros((size, self.groups + self.subsets), bool) for size in self.sizes]
        for mark in marks:
            order = numpy_generator(self.seed, "kernel groups").permutation(len(mark))
            mark[order, np.arange(len(mark)) % self.groups] = True
        for subset in range(self.groups, self.groups + self.subsets):
            for mark in marks:
                mark[rng.choice(len(mark), self.subset_size, replace=False), subset] = True
        return marks


def kernel_estimate(
    features: Matrix,
    reference: Matrix,
    *,
    subset_size: int = 1000,
    subsets: int = 100,
    groups: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Return KID of features `(n, d)` and `(m, d)`; n, m ≥ 4.

    `kid_mean` and `kid_std` are those over random subsets, of `subset_size` images or n or m if
    that is less, the subsets of torch-fidelity. `kid` is over all images, with an interval
    `kid_low`, `kid_high`. Kernels are in the precision of the features, their sums in float64; all
    are taken once, in O((n + m)²·d) time.
    """
    pair = as_points(features, reference, 4)
    design = Design.of(pair, groups, subsets, subset_size, seed)
    return kernel_figures(design.products(pair), design, confidence)


def kernel_figures(found: Products, design: Design, confidence: float) -> dict[str, float]:
    """Return what `kernel_estimate` does of the sums that `design` gave."""
    groups, size = design.groups, design.subset_size
    parts = np.stack([*found.within, found.between])[:, :groups, :groups]
    sizes = np.stack([np.bincount(np.arange(n) % groups) for n in design.sizes])

    def unbiased(kept: list[int]) -> tuple[float]:
        """Return the unbiased estimate of MMD² from these groups."""
        return (_mmd(parts[:, kept][:, :, kept].sum(axis=(1, 2)), *sizes[:, kept].sum(axis=1)),)

    [values] = jackknife(unbiased, groups, confidence)
    of_subsets = [np.diagonal(part)[groups:] for part in (*found.within, found.between)]
    subsets = _mmd(of_subsets, size, size)
    return {"kid_mean": float(np.mean(subsets)), "kid_std": float(np.std(subsets))} | dict(
        zip(("kid", "kid_low", "kid_high"), values, strict=True)
    )


def _mmd(sums: Sequence, n: int, m: int):
    """Return the unbiased estimate of MMD² from sums within two sets and between them."""
    return sums[0] / (n * (n - 1)) + sums[1] / (m * (m - 1)) - 2 * sums[2] / (n * m)


def jackknife(
    estimate: Callable[[list[int]], Sequence[float]], groups: int, confidence: float = 0.95
) -> list[list[float]]:
    """Return each of the estimates from all groups, with the ends of its t interval.

    `estimate` takes the numbers of the groups that are kept. The variance is that of leaving each
    out, (g - 1)/g Σ (θ₋ᵢ - mean)² with g - 1 degrees of freedom; the ends are NaN for one group.
    """
    every = list(range(groups))
    whole, reach = np.array(estimate(every)), np.nan
    if groups > 1:
        without = np.array([estimate(every[:i] + every[i + 1 :]) for i in every])
        error = np.sqrt((groups - 1) * without.var(axis=0))
        reach = stats.t.ppf((1 + confidence) / 2, groups - 1) * error
    return np.stack([whole, whole - reach, whole + reach], axis=1).tolist()
