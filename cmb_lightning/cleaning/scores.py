"""How far a cleaned map is from the truth, simulation by simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

METRICS = ("MAE", "RMSE", "NRMSE", "PSNR", "R2", "Pearson")
"""MAE and RMSE in the maps' unit, PSNR in dB, the others without unit."""

CALIBRATION = ("coverage68", "coverage95", "coverage99.7", "z_mean", "z_spread")
"""Of error bars, without unit: the fraction of pixels whose error is within the 68, 95 and 99.7 % interval of the
Gaussian that is stated; mean and standard deviation of the error over the stated one."""

INTERVALS = tuple(NormalDist().inv_cdf(0.5 + level / 2) for level in (0.68, 0.95, 0.997))

LOWER_IS_BETTER = frozenset({"MAE", "RMSE", "NRMSE"})


def score_maps(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The metrics of one prediction, accumulated in float64.

    PSNR takes its range from the truth alone: outliers of a prediction must not raise its own score.

    Args:
        prediction: Pixels [uK_CMB], shape (..., pixel), in any ordering.
        truth: The same pixels of the truth, same shape.

    Returns:
        One value per entry of `METRICS`, shape (..., metric); NaN where a metric is undefined (a constant truth).
    """
    p = np.asarray(prediction, dtype=np.float64)
    t = np.asarray(truth, dtype=np.float64)
    error = p - t
    squared = np.mean(error**2, axis=-1)
    dt = t - t.mean(axis=-1, keepdims=True)
    dp = p - p.mean(axis=-1, keepdims=True)
    variance = np.mean(dt**2, axis=-1)
    span = t.max(axis=-1) - t.min(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (
            np.mean(np.abs(error), axis=-1),
            np.sqrt(squared),
            np.sqrt(squared / np.mean(t**2, axis=-1)),
            10 * np.log10(np.where(span > 0, span, np.nan) ** 2 / squared),
            1 - squared / variance,
            np.mean(dp * dt, axis=-1) / np.sqrt(variance * np.mean(dp**2, axis=-1)),
        )
    return np.stack(values, axis=-1)


def score_errors(prediction: np.ndarray, truth: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """How the errors of one prediction compare with those that it states, in float64.

    Args:
        prediction: Pixels [uK_CMB], shape (..., pixel), in any ordering.
        truth: The same pixels of the truth, same shape.
        sigma: Their stated standard errors [uK_CMB], same shape.

    Returns:
        One value per entry of `CALIBRATION`, shape (..., metric).
    """
    z = (np.asarray(prediction, dtype=np.float64) - truth) / sigma
    within = [np.mean(np.abs(z) <= interval, axis=-1) for interval in INTERVALS]
    return np.stack([*within, z.mean(axis=-1), z.std(axis=-1)], axis=-1)


def score_regions(
    prediction: np.ndarray, truth: np.ndarray, regions: Mapping[str, np.ndarray], sigma: np.ndarray | None = None
) -> np.ndarray:
    """The metrics of one prediction, or of its error bars where they are given, on several parts of the sky.

    Args:
        prediction: Maps [uK_CMB], shape (field, npix), ordered as the masks are.
        truth: The true maps, same shape.
        regions: Name to mask, bool, shape (npix,).
        sigma: Stated standard errors, same shape.

    Returns:
        Values, float64, shape (field, region, metric).
    """
    score, maps = (score_maps, (prediction, truth)) if sigma is None else (score_errors, (prediction, truth, sigma))
    scored = [score(*(maps if mask.all() else [m[..., mask] for m in maps])) for mask in regions.values()]
    return np.stack(scored, axis=-2)


@dataclass
class Scores:
    """The metrics of a method on a set of simulations.

    Attributes:
        sims: Numbers of the simulations, rising, int64, shape (simulation,).
        values: float64, shape (simulation, field, region, metric).
        fields: Names of the fields, such as `I`.
        regions: Names of the regions, such as `full`.
        metrics: Names of the metrics.
    """

    sims: np.ndarray
    values: np.ndarray
    fields: tuple[str, ...]
    regions: tuple[str, ...]
    metrics: tuple[str, ...] = METRICS

    def __len__(self) -> int:
        return len(self.sims)

    def mean(self) -> np.ndarray:
        """Mean over the simulations, shape (field, region, metric)."""
        return self.values.mean(axis=0) if len(self) else np.full(self.values.shape[1:], np.nan)

    def spread(self) -> np.ndarray:
        """Standard deviation over the simulations, shape (field, region, metric); NaN for fewer than two."""
        return self.values.std(axis=0, ddof=1) if len(self) > 1 else np.full(self.values.shape[1:], np.nan)

    def standard_error(self) -> np.ndarray:
        """Standard error of the mean, shape (field, region, metric); NaN for fewer than two simulations."""
        return self.spread() / np.sqrt(max(len(self), 1))

    def of(self, metric: str, region: str, field: str | None = None) -> np.ndarray:
        """One metric of every simulation, shape (simulation,); of the first field unless another is named."""
        place = self.fields.index(field) if field else 0
        return self.values[:, place, self.regions.index(region), self.metrics.index(metric)]

    def means(self) -> dict[str, float]:
        """The means under flat names for a logger: `RMSE/b20`, or `RMSE/b20/E` where there are several fields."""
        mean = self.mean()
        return {
            "/".join([metric, region, *([field] if len(self.fields) > 1 else [])]): float(mean[f, r, m])
            for f, field in enumerate(self.fields)
            for r, region in enumerate(self.regions)
            for m, metric in enumerate(self.metrics)
        }

    def rows(self) -> list[dict[str, int | str | float]]:
        """The per-simulation table: a row per simulation, field and region, with a column for each metric."""
        return [
            {"sim": int(sim), "field": field, "region": region}
            | dict(zip(self.metrics, map(float, self.values[s, f, r]), strict=True))
            for s, sim in enumerate(self.sims)
            for f, field in enumerate(self.fields)
            for r, region in enumerate(self.regions)
        ]


def gather_scores(
    per_sim: Mapping[int, np.ndarray],
    fields: Sequence[str],
    regions: Sequence[str],
    metrics: tuple[str, ...] = METRICS,
) -> Scores:
    """Scores of simulations that were scored one by one (with `score_regions`), in the order of their numbers."""
    sims = np.array(sorted(per_sim), dtype=np.int64)
    shape = (len(sims), len(fields), len(regions), len(metrics))
    values = np.array([per_sim[int(sim)] for sim in sims], dtype=np.float64).reshape(shape)
    return Scores(sims, values, tuple(fields), tuple(regions), metrics)
