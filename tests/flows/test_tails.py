"""Diagnostics of the dual: indices against theory, pinned noise, the kappa that is advised."""

import warnings

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.flows import Gaussian, MirrorFlow, tail_report
from mirrorgen.flows.tails import pinned_share, usable_kappa
from mirrorgen.nets import MLP

F64 = torch.float64


def flow_on(domain, mirror_map, prior=None):
    return MirrorFlow(mirror_map, MLP(domain.dual_dim, [4]), prior or Gaussian(), dual_transform=None)


def test_indices_of_the_uniform_law_on_an_interval():
    # Positive density at the walls: beta = 1, and the log barrier's dual has tail index 1.
    box = D.Box([0.0], [1.0])
    x = ((torch.arange(200_000, dtype=F64) + 0.5) / 200_000).unsqueeze(-1)
    for kappa in (0.5, 1.0):
        report = tail_report(flow_on(box, M.RegularizedBarrier(box, kappa)), x, share=0.001)
        assert report.boundary_exponent == pytest.approx(1.0, rel=0.02)
        assert report.tail_index == pytest.approx(report.boundary_exponent / kappa, rel=0.1)
        assert report.norms.shape == (200_000,)


def test_pinned_noise_and_the_kappa_that_is_advised():
    box = D.Box(-1.0, 1.0, dim=2)
    x = box.sample_uniform(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    flow = MirrorFlow(M.RegularizedBarrier(box, 0.05), MLP(2, [4]))
    with pytest.warns(UserWarning, match=r"kappa=0\.\d+ would not"):
        flow.fit_dual_transform(x)
    kappa = usable_kappa(flow, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MirrorFlow(M.RegularizedBarrier(box, kappa), MLP(2, [4])).fit_dual_transform(x)
        # In double precision the same map is further from its limits.
        assert pinned_share(flow, F64) < pinned_share(flow, torch.float32)
    report = tail_report(flow, x)
    assert report.pinned > 0.01
    assert report.kappa == kappa


def test_entropic_maps_are_not_suspected():
    box = D.Box(0.0, 1.0, dim=3)
    flow = MirrorFlow(M.BoxEntropy(box), MLP(3, [4]))
    x = box.sample_uniform(500, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.fit_dual_transform(x)
    assert tail_report(flow, x).kappa is None
