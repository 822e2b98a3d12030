"""The scheduler in loops as users of diffusers write them, against this package's own."""

import json
import math
import pickle
import socket
import sys

import pytest
import torch
from scipy import stats

from mirrorgen import diffusion, nets
from mirrorgen.diffusion import scheduler as module
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError
from mirrorgen.geometry.domains import Box

from . import oracle

diffusers = pytest.importorskip("diffusers")
ReflectedVEScheduler = diffusion.ReflectedVEScheduler
F64 = torch.float64
SHAPE = (3, 2, 3, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cosine_score(low, width):
    """The score of independent pixels with the cosine law on ``(low, low + width)``, for vectors and images alike."""
    return lambda x, sigma: oracle.score((x - low) / width, sigma / width) / width


def plain_loop(scheduler, score, sample, generator):
    """The loop of a pipeline, with ``sigma * score`` as the model's output."""
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.scale_model_input(sample, t)
        assert float(x.abs().max()) < 1
        output = sigma * score(sample, sigma)
        sample = scheduler.step(output, t, sample, generator=generator).prev_sample
    return sample


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize(("method", "grid"), [("ancestral", "rho"), ("em", "log"), ("euler", "rho")])
def test_the_plain_loop_is_reverse(low, high, method, grid):
    scheduler, width = ReflectedVEScheduler(low=low, high=high, method=method, grid=grid), high - low
    scheduler.set_timesteps(12)
    score, box = cosine_score(low, width), Box(low, high, dim=math.prod(SHAPE[1:]))
    start = box.sample_uniform(SHAPE[0], generator=seeded(1), dtype=F64)
    levels = diffusion.sigma_grid(1.5 * width, 0.01 * width, 12, grid)
    expected = diffusion.reverse(box, score, start, levels, method, generator=seeded(2))
    found = plain_loop(scheduler, score, start.reshape(SHAPE), seeded(2))
    assert found.shape == SHAPE
    torch.testing.assert_close(found.flatten(1), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found.flatten(1), start, atol=0.1)


def test_the_plain_loop_samples_a_model():
    torch.manual_seed(0)
    net = nets.UNet(2, 4, 4, widths=(8,), attention=(), groups=4, head_width=8, num_classes=2)
    torch.nn.init.normal_(net.unet.conv_out.weight, std=0.2)
    model = diffusion.ReflectedDiffusion(Box(0.0, 1.0, dim=net.dim), net)
    start, labels = model.domain.sample_uniform(4, generator=seeded(1)), torch.arange(4) % 2
    options = {"condition": labels, "start": start, "sigma_start": 1.5, "method": "ancestral", "steps": 6}
    expected = model.sample(4, generator=seeded(2), **options)
    scheduler, sample, generator = ReflectedVEScheduler(), start.reshape(4, 2, 4, 4), seeded(2)
    scheduler.set_timesteps(6)
    with torch.no_grad():
        for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            u, vector = scheduler.scale_model_input(sample, t).flatten(1), sample.flatten(1)
            output = model.domain.no_flux(vector, net(u, t / len(scheduler), labels), float(sigma))
            sample = scheduler.step(output.reshape(sample.shape), t, sample, generator=generator).prev_sample
    torch.testing.assert_close(sample.flatten(1), expected, rtol=1e-4, atol=1e-4)


def test_levels_are_those_of_the_package():
    scheduler = ReflectedVEScheduler(sigma_min=0.002, sigma_max=1.2, grid="log", num_train_timesteps=500)
    scheduler.set_timesteps(7)
    assert torch.equal(scheduler.sigmas, diffusion.sigma_grid(1.2, 0.002, 7, "log"))
    times = diffusion.GeometricSchedule(0.002, 1.2).time(scheduler.sigmas[:-1])
    torch.testing.assert_close(scheduler.timesteps.double(), 500 * times, rtol=1e-6, atol=1e-4)
    assert len(scheduler) == 500
    assert scheduler.init_noise_sigma == 1.2
    assert len(scheduler.timesteps) == scheduler.num_inference_steps == 7


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 2.5)])
def test_normal_noise_folds_to_uniform(low, high):
    scheduler = ReflectedVEScheduler(low=low, high=high)
    sample = scheduler.init_noise_sigma * torch.randn(40_000, generator=seeded(3), dtype=F64)
    u = scheduler.scale_model_input(sample)
    assert stats.kstest(u.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    inside = torch.linspace(low, high, 9)[1:-1]
    torch.testing.assert_close(scheduler.scale_model_input(inside), torch.linspace(-1, 1, 9)[1:-1])
    # Both doors fold alike: a step without noise from unfolded and from folded samples ends at the same place.
    euler = ReflectedVEScheduler(low=low, high=high, method="euler")
    folded = low + 0.5 * (high - low) * (u + 1)
    ends = [euler.step(torch.zeros_like(x), euler.timesteps[0], x).prev_sample for x in (sample, folded)]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_samples_are_strictly_inside(low, high, dtype):
    for method in ("ancestral", "em", "euler"):
        scheduler = ReflectedVEScheduler(low=low, high=high, method=method)
        scheduler.set_timesteps(8)
        for scale in (0.0, 1.0, 1e6):
            sample = scheduler.init_noise_sigma * torch.randn(50, 3, 8, generator=seeded(4), dtype=dtype)
            for t in scheduler.timesteps:
                output = scale * torch.randn(sample.shape, generator=seeded(5), dtype=dtype)
                sample = scheduler.step(output, t, sample, generator=seeded(6)).prev_sample
                assert sample.dtype == dtype
                assert bool(((sample > low) & (sample < high)).all())


def test_add_noise_has_the_law_of_the_heat_kernel():
    n, scheduler = 100_000, ReflectedVEScheduler(low=-1.0, high=1.0)
    for seed, (step, x_0) in enumerate([(0, -0.999), (500, -1.0), (700, 0.3), (850, 0.9), (999, 0.0)]):
        original = torch.full((n, 1, 1), x_0, dtype=F64)
        noise = torch.randn(n, 1, 1, generator=seeded(seed), dtype=F64)
        noisy = scheduler.add_noise(original, noise, torch.full((n,), step))
        # Waves with flat ends are eigenfunctions of the heat kernel.
        sigma = 0.02 * 150 ** (step / 1000)
        for k in (1, 2, 3, 40):
            wave = torch.cos(k * math.pi * (noisy + 1) / 2).flatten()
            mean = math.exp(-0.5 * (k * math.pi * sigma / 2) ** 2) * math.cos(k * math.pi * (x_0 + 1) / 2)
            assert abs(float(wave.mean()) - mean) < 4.5 * float(wave.std()) / n**0.5, (step, x_0, k)
        assert bool((noisy.abs() < 1).all())


def test_noise_levels_are_per_image():
    scheduler, x, noise = ReflectedVEScheduler(), torch.full((4, 2, 2), 0.5), torch.full((4, 2, 2), 1.0)
    steps = torch.tensor([0, 250, 500, 600])
    moved = scheduler.add_noise(x, noise, steps) - x
    torch.testing.assert_close(moved, (0.01 * 150 ** (steps / 1000))[:, None, None].expand_as(x))
    torch.testing.assert_close(scheduler.add_noise(x, noise, 500)[2], (x + moved)[2])


def test_the_target_is_the_gradient_of_the_log_density():
    scheduler = ReflectedVEScheduler(low=-1.0, high=1.0)
    x, noisy = (2 * torch.rand(5, 3, 2, generator=seeded(k), dtype=F64) - 1 for k in (1, 2))
    steps = torch.tensor([400, 500, 650, 800, 999])
    sigma = (0.02 * 150 ** (steps.double() / 1000))[:, None, None]
    y = noisy.clone().requires_grad_()
    k = torch.arange(1, 200, dtype=F64)
    waves = [torch.cos(0.5 * math.pi * k * (v.unsqueeze(-1) + 1)) for v in (y, x)]
    series = 0.5 + (torch.exp(-0.5 * (0.5 * math.pi * k * sigma.unsqueeze(-1)) ** 2) * waves[0] * waves[1]).sum(-1)
    (gradient,) = torch.autograd.grad(series.log().sum(), y)
    known = series.detach() > 1e-4
    assert int(known.sum()) > 20
    found = scheduler.get_target(x, noisy, steps)
    torch.testing.assert_close(found[known], (sigma * gradient)[known], rtol=1e-8, atol=1e-8)


def test_generators():
    scheduler, x, output = ReflectedVEScheduler(), torch.rand(3, 2, 4, generator=seeded(1)), torch.zeros(3, 2, 4)
    t = scheduler.timesteps[100]
    each = scheduler.step(output, t, x, generator=[seeded(k) for k in range(3)]).prev_sample
    alone = [scheduler.step(output[k : k + 1], t, x[k : k + 1], generator=seeded(k)).prev_sample for k in range(3)]
    assert torch.equal(each, torch.cat(alone))
    torch.manual_seed(7)
    free = scheduler.step(output, t, x, return_dict=False)
    assert isinstance(free, tuple)
    assert not torch.equal(free[0], each)
    with pytest.raises(ShapeError, match="2 generators"):
        scheduler.step(output, t, x, generator=[seeded(), seeded()])


def test_configuration_round_trip_offline(tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    scheduler = ReflectedVEScheduler(sigma_min=0.004, low=-1.0, method="em", grid="log", num_train_timesteps=50)
    scheduler.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert saved["_class_name"] == "ReflectedVEScheduler"
    twin = ReflectedVEScheduler.from_pretrained(tmp_path)
    arguments = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    assert arguments.items() <= twin.config.items()
    assert len(arguments) == 7
    assert torch.equal(twin.timesteps, scheduler.timesteps)
    other = ReflectedVEScheduler.from_config(scheduler.config, method="euler")
    assert (other.config.method, other.config.sigma_min) == ("euler", 0.004)
    assert pickle.loads(pickle.dumps(scheduler)).schedule.sigma_max == 3.0


def test_pipelines_of_diffusers_run_save_and_load_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = diffusers.UNet2DModel(sample_size=4, block_out_channels=(8,), norm_num_groups=4, **blocks)
    pipeline = diffusers.DDPMPipeline(unet=unet, scheduler=ReflectedVEScheduler(low=-1.0, high=1.0))
    pipeline.save_pretrained(tmp_path)
    images = []
    for one in (pipeline, diffusers.DDPMPipeline.from_pretrained(tmp_path)):
        one.set_progress_bar_config(disable=True)
        images.append(one(generator=seeded(1), num_inference_steps=3, output_type="np").images)
        assert isinstance(one.scheduler, ReflectedVEScheduler)
    assert images[0].shape == (1, 4, 4, 3)
    assert (images[0] == images[1]).all()


def test_bad_calls_are_named():
    scheduler, x = ReflectedVEScheduler(), torch.rand(2, 3)
    with pytest.raises(DomainError, match="'em', 'ancestral' or 'euler'"):
        ReflectedVEScheduler(method="pc")
    with pytest.raises(DomainError, match="'em', 'ancestral' or 'euler'"):
        ReflectedVEScheduler(method="dopri5")
    with pytest.raises(DomainError, match="unknown sampling method"):
        ReflectedVEScheduler(method="ddim")
    with pytest.raises(DomainError, match="empty interior"):
        ReflectedVEScheduler(low=1.0, high=0.0)
    scheduler.set_timesteps(4)
    with pytest.raises(DomainError, match=r"none of scheduler\.timesteps"):
        scheduler.step(x, 3.0, x)
    with pytest.raises(ShapeError, match="shape of the sample"):
        scheduler.step(x[:1], scheduler.timesteps[0], x)
    with pytest.raises(ShapeError, match="float32 or float64"):
        scheduler.step(x.half(), scheduler.timesteps[0], x.half())


def test_half_precision_outputs_leave_the_sample_in_its_own():
    scheduler, x = ReflectedVEScheduler(), torch.rand(2, 3)
    found = scheduler.step(x.bfloat16(), scheduler.timesteps[5], x, generator=seeded()).prev_sample
    exact = scheduler.step(x.bfloat16().float(), scheduler.timesteps[5], x, generator=seeded()).prev_sample
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_without_diffusers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setattr(module, "_scheduler_class", module._scheduler_class.__wrapped__)
    for room in (module, diffusion):
        with pytest.raises(MissingExtraError, match=r"mirrorgen\[images\]"):
            _ = room.ReflectedVEScheduler
        with pytest.raises(AttributeError, match="Nothing"):
            _ = room.Nothing
