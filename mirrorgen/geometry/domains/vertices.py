"""Volumes from vertices."""

import math

import numpy as np

__all__ = ["convex_log_volume"]


def convex_log_volume(A: np.ndarray, b: np.ndarray, interior: np.ndarray) -> float:
    """``log`` of the volume of the bounded set ``{z : A z < b}``, by the vertices and their convex hull.

    Args:
        A: Unit rows ``(m, k)``; redundant ones are allowed.
        b: Right-hand sides ``(m,)``.
        interior: A point inside ``(k,)``.
    """
    # Loaded here: it takes long to import, and few need it.
    from scipy.spatial import ConvexHull, HalfspaceIntersection

    k = A.shape[1]
    if k == 1:
        ends = b / A[:, 0]
        return math.log(ends[A[:, 0] > 0].min() - ends[A[:, 0] < 0].max())
    # About the interior point and in units of the inscribed ball, so that the tolerances of the hull fit any set.
    slack = b - A @ interior
    size = float(slack.min())
    dual = HalfspaceIntersection(np.column_stack([A, -slack / size]), np.zeros(k))
    return math.log(ConvexHull(dual.intersections).volume) + k * math.log(size)
