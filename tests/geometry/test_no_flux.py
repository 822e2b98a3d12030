"""Fields without flux through walls: forms against sixty digits, each other, and the geometry of corners."""

import math

import mpmath
import numpy as np
import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.errors import DomainError
from mirrorgen.geometry.no_flux import damp_normals

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def unit_rows(m, k, seed):
    A = normal(m, k, seed=seed)
    return A / A.norm(dim=-1, keepdim=True)


def minimiser(A, distances, v, scale):
    """The argmin itself, by a dense solve in 60 digits."""
    with mpmath.workdps(60):
        k = A.shape[1]
        rows, matrix = mpmath.matrix(A.tolist()), mpmath.eye(k)
        for i, d in enumerate(distances.tolist()):
            penalty = 1 / mpmath.tanh(mpmath.mpf(d) / scale) - 1
            for p in range(k):
                for q in range(k):
                    matrix[p, q] += penalty * rows[i, p] * rows[i, q]
        return torch.tensor([float(c) for c in mpmath.lu_solve(matrix, mpmath.matrix(v.tolist()))], dtype=F64)


@pytest.mark.parametrize(("m", "k"), [(1, 3), (2, 5), (4, 4), (4, 3), (12, 3), (6, 2)])
@pytest.mark.parametrize("gap", [1.0, 1e-3, 1e-6, 1e-9, 1e-13])
def test_half_spaces_against_sixty_digits(m, k, gap):
    # At the origin the offsets are the distances; in every second case half of the faces are far away.
    bar = 1e-14 if m <= k or gap >= 1e-6 else 1e-11  # more faces than dimensions, all within 1e-9 of the point
    for seed in range(4):
        A, v = unit_rows(m, k, seed), normal(k, seed=50 + seed)
        distances = gap * (0.1 + normal(m, seed=100 + seed).abs())
        distances[: (m // 2) * (seed % 2)] = 1.0
        u = damp_normals(torch.zeros(k, dtype=F64), v, A, distances, 0.3)
        assert (u - minimiser(A, distances, v, mpmath.mpf(0.3))).norm() <= bar * v.norm()


def test_half_spaces_are_differentiable_in_everything():
    for m, k in ((3, 4), (7, 3)):
        A, b = unit_rows(m, k, 3), 0.05 + normal(m, seed=4).abs()
        inputs = [t.clone().requires_grad_() for t in (0.01 * normal(2, k, seed=5), normal(2, k, seed=6), A, b)]
        inputs.append(torch.tensor([[0.3], [0.5]], dtype=F64, requires_grad=True))
        assert torch.autograd.gradcheck(damp_normals, inputs)
        assert torch.autograd.gradgradcheck(damp_normals, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_what_is_left_of_the_normal_component_at_the_smallest_distances(dtype):
    oblique = torch.linalg.qr(normal(3, 3, seed=9))[0]
    v = normal(3, seed=2).to(dtype)
    for rows in (-torch.eye(3, dtype=F64), -oblique, torch.cat([-torch.eye(3, dtype=F64), torch.eye(3, dtype=F64)])):
        domain = D.Polytope(rows, [0.0] * 3 + [1.0] * (len(rows) - 3))
        for x in (torch.tensor([1e-38, 0.4, 0.3]), torch.tensor([1e-38, 1e-30, 0.3]), torch.zeros(3)):
            x = (x.double() @ -rows[:3]).to(dtype)
            u = domain.no_flux(x, v, 0.1)
            faces = domain.slack(x)[:3].abs() < 1e-6
            # Rounding of the result itself, nothing more.
            assert ((u.double() @ rows[:3].mT)[faces].abs() <= 2 * torch.finfo(dtype).eps * v.norm()).all()
    # Where four walls of a pyramid meet in one point the field stops there.
    pyramid = D.Polytope([[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, -1.0, 1.0]], [1.0] * 4)
    tip = torch.tensor([0.0, 0.0, 1.0], dtype=dtype)
    assert pyramid.no_flux(tip, v, 0.1).norm() <= 10 * torch.finfo(dtype).eps
    # Along an edge it keeps moving.
    edge = D.Polytope(-torch.eye(3, dtype=F64), [0.0] * 3).no_flux(torch.tensor([0.0, 0.0, 5.0], dtype=dtype), v, 0.1)
    torch.testing.assert_close(edge, v * torch.tensor([0.0, 0.0, 1.0], dtype=dtype))


@pytest.mark.parametrize(
    "domain", [D.Orthant(3), D.Halfspace([3.0, -4.0, 0.5], -2.0), D.Simplex(2), D.Simplex(5)], ids=repr
)
@pytest.mark.parametrize("scale", [1e-2, 0.2, 30.0])
def test_closed_forms_are_the_half_space_form(domain, scale):
    z = domain.to_chart(domain.interior_point()) + normal(200, domain.dual_dim, seed=1)
    x, _ = domain.pull_inside(domain.project(domain.from_chart(z)))
    v = normal(200, domain.dim, seed=2)
    general = D.Domain._no_flux(domain, x, v, scale)
    assert torch.allclose(domain.no_flux(x, v, scale), general, rtol=0, atol=1e-11)
    single = domain.no_flux(x.float(), v.float(), scale)
    assert torch.allclose(single.double(), domain.no_flux(x.float().double(), v, scale), rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_box_factor_against_sixty_digits(dtype):
    low, high, scale = -1.0, 0.5, 0.3
    domain, one = D.Box(low, high), torch.ones(1, dtype=dtype)
    last = [
        float(torch.nextafter(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)))
        for a, b in ((low, high), (high, low))
    ]
    with mpmath.workdps(60):
        for x in (*last, -0.9999, -0.75, -0.25, 0.0, 0.4999):
            x = float(torch.tensor(x, dtype=dtype))
            width = mpmath.mpf(high - low)
            s = mpmath.mpf(scale) / width
            exact = mpmath.tanh(mpmath.sin(mpmath.pi * (mpmath.mpf(x) - low) / width) / (mpmath.pi * s))
            ours = float(domain.no_flux(torch.tensor([x], dtype=dtype), one, scale))
            assert abs(ours / float(exact) - 1) <= 8 * torch.finfo(dtype).eps
    for d in (1e-4, 1e-6):
        for x in (low + d, high - d):
            ours = float(domain.no_flux(torch.tensor([x], dtype=F64), one.double(), scale))
            assert abs(ours / (d / scale) - 1) <= 5 * (d / scale) ** 2 + 1e-9


def test_box_and_orthant_continue_as_reflection_asks():
    # Of a field that is the same at a point and at its mirror image, the result there is the mirrored result.
    v = normal(50, 2, seed=1)
    x = 0.5 * normal(50, 2, seed=2)
    box = D.Box([0.0, -1.0], [2.0, 1.0])
    flip = torch.tensor([-1.0, 1.0], dtype=F64)
    for mirrored in (flip * x, torch.tensor([4.0, 0.0], dtype=F64) + flip * x):
        assert torch.allclose(box.no_flux(mirrored, v, 0.3), flip * box.no_flux(x, v, 0.3), atol=1e-12)
    orthant, half = D.Orthant(2), D.Halfspace([-1.0, 0.0], 0.0)
    assert torch.allclose(orthant.no_flux(flip * x, v, 0.3), flip * orthant.no_flux(x, v, 0.3), atol=1e-15)
    assert torch.allclose(half.no_flux(flip * x, v, 0.3), flip * half.no_flux(x, v, 0.3), atol=1e-15)


def test_one_face_leaves_the_tangential_part_alone():
    domain, x, v = D.Halfspace([3.0, 4.0], 0.0), normal(20, 2, seed=3), normal(20, 2, seed=4)
    x, _ = domain.pull_inside(domain.project(x))
    a = torch.tensor([0.6, 0.8], dtype=F64)
    t = torch.tensor([0.8, -0.6], dtype=F64)
    u = domain.no_flux(x, v, 0.5)
    assert torch.allclose(u @ t, v @ t, atol=1e-15)
    assert torch.allclose(u @ a, torch.tanh(-(x @ a) / 0.5) * (v @ a), atol=1e-15)


def test_ball_damps_the_radial_part_only():
    domain, scale = D.Ball(3, radius=2.0, center=[1.0, 0.0, -3.0]), 0.25
    x = domain.sample_uniform(100, generator=torch.Generator().manual_seed(0), dtype=F64)
    v, offset = normal(100, 3, seed=1), x - domain.center
    r = offset.norm(dim=-1)
    radial = offset / r.unsqueeze(-1)
    u = domain.no_flux(x, v, scale)
    across = torch.linalg.cross(offset, v)
    assert torch.allclose(torch.linalg.cross(offset, u), across, atol=1e-13)
    room = 1 - (r / 2) ** 2
    f = torch.tanh(2.0 * room / (2 * scale))
    assert torch.allclose((u * radial).sum(-1), (f + (1 - f) * room**2) * (v * radial).sum(-1), atol=1e-13)
    # First order in the distance, with slope one over the scale.
    for d in (1e-3, 1e-5):
        at = domain.center + (2.0 - d) * radial
        ratio = (domain.no_flux(at, radial, scale) * radial).sum(-1) / (d / scale)
        assert torch.allclose(ratio, torch.ones_like(ratio), rtol=0, atol=4 * d / scale)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_ball_is_smooth_at_the_centre(scale):
    x, v = torch.zeros(1, 3, dtype=F64, requires_grad=True), normal(1, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, w: D.Ball(3).no_flux(p, w, scale), (x, v))
    assert torch.autograd.gradgradcheck(lambda p, w: D.Ball(3).no_flux(p, w, scale), (x, v))
    assert torch.allclose(D.Ball(3).no_flux(x, v, scale), v)


def positive_definite(values, seed=0):
    Q = torch.linalg.qr(normal(len(values), len(values), seed=seed))[0]
    return (Q * torch.tensor(values, dtype=F64)) @ Q.mT, Q


def test_matrices_against_their_eigenbasis():
    domain, scale = D.PSD(4), 0.7
    X, _ = positive_definite([1e-3, 0.2, 1.0, 9.0])
    V = domain.unpack(normal(domain.dim, seed=1))
    values, Q = np.linalg.eigh(X.numpy())
    entries = Q.T @ V.numpy() @ Q
    for i in range(4):
        for j in range(4):
            entries[i, j] *= math.tanh((values[i] + values[j]) / (2 * scale))
    ours = domain.unpack(domain.no_flux(domain.pack(X), domain.pack(V), scale))
    assert np.allclose(ours.numpy(), Q @ entries @ Q.T, rtol=0, atol=1e-14)
    with torch.no_grad():
        assert torch.allclose(domain.unpack(domain.no_flux(domain.pack(X), domain.pack(V), scale)), ours, atol=1e-14)
    x, v = normal(7, 1, seed=3).abs(), normal(7, 1, seed=4)
    assert torch.allclose(D.PSD(1).no_flux(x, v, 0.3), D.Orthant(1).no_flux(x, v, 0.3), atol=1e-15)


def test_matrices_on_the_boundary_keep_a_definite_null_space():
    domain = D.PSD(4)
    X, Q = positive_definite([0.0, 0.0, 1.0, 3.0])
    V = domain.unpack(normal(domain.dim, seed=1))
    U = Q.mT @ domain.unpack(domain.no_flux(domain.pack(X), domain.pack(V), 0.05)) @ Q
    V = Q.mT @ V @ Q
    # The block of the null space has to vanish; turning the null space, and moving within the rest, is free.
    assert U[:2, :2].abs().max() <= 1e-14
    U[:2, :2] = V[:2, :2]
    assert torch.allclose(U, V, rtol=1e-8)


def test_matrices_have_derivatives_at_repeated_eigenvalues():
    domain = D.PSD(3)
    v = normal(domain.dim, seed=2).requires_grad_()
    for values in ([1.0, 1.0, 1.0], [0.2, 0.2, 2.0]):
        x = domain.pack(positive_definite(values)[0]).requires_grad_()
        assert torch.autograd.gradcheck(lambda p, w: domain.no_flux(p, w, 0.8), (x, v))
        assert torch.autograd.gradgradcheck(lambda p, w: domain.no_flux(p, w, 0.8), (x, v))


def test_products_act_factor_by_factor():
    box, simplex = D.Box(0.0, 1.0, dim=2), D.Simplex(3)
    x = torch.cat([normal(4, 2).sigmoid(), normal(4, 3).softmax(-1)], -1)
    v, scale = normal(4, 5, seed=1), torch.tensor([0.1, 0.2, 0.5, 3.0], dtype=F64)
    parts = box.no_flux(x[:, :2], v[:, :2], scale), simplex.no_flux(x[:, 2:], v[:, 2:], scale)
    assert torch.equal(D.Product(box, simplex).no_flux(x, v, scale), torch.cat(parts, -1))


class Disc(D.Ball):
    """A set whose class gives no form of its own and which half-spaces do not describe."""

    _no_flux = D.Domain._no_flux


def test_sets_without_a_form_say_so():
    x = torch.zeros(2)
    for domain in (Disc(2), D.Product(D.Box(), Disc(1))):
        with pytest.raises(DomainError, match=r"has no no_flux.*half-spaces"):
            domain.no_flux(x, x, 0.1)
