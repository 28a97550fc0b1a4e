"""Statistics of classification results: bounds of shares, and the correction of many tests."""

import numpy as np
from statsmodels.stats.proportion import proportion_confint


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979) of p-values `(m,)`; returns the adjusted ones.

    Written out because statsmodels' `multipletests` collects garbage at every call, which takes
    half a second in a process with torch.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def wilson_interval(correct: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion of `correct` out of `n`."""
    low, high = proportion_confint(correct, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)
