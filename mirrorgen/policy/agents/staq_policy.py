"""Policies that are softmaxes of a stack of frozen value networks, as Stable-Baselines3 policies."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.stacked_networks import QStack, StackedMLP

__all__ = ["StaQPolicy"]


class StaQPolicy(BasePolicy):
    """The softmax of a ``QStack``: greedy when deterministic, else mixed with a few uniform actions.

    ``q_net`` is the ensemble in training, ``q_net_target`` its delayed copy, ``stack`` all that decides about actions.
    Observations of any kind but dictionaries are flattened.

    Args:
        observation_space: Not a dictionary.
        action_space: Discrete.
        lr_schedule: Of the optimiser.
        net_arch: Widths of hidden layers, one at least; ``[64, 64]`` if None.
        activation_fn: Between layers.
        memory: Value functions on the stack.
        ensemble: Networks per value function.
        exploration_eps: Share of uniform actions unless deterministic.
        normalize_images: Whether image observations are divided by 255.
        optimizer_class: Of the value networks.
        optimizer_kwargs: Its options but for the learning rate.

    Raises:
        DomainError: If observations are dictionaries or there is no hidden layer.
    """

    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        memory: int = 50,
        ensemble: int = 2,
        exploration_eps: float = 0.05,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            FlattenExtractor,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )
        if isinstance(observation_space, spaces.Dict):
            raise DomainError("StaQ needs one array per observation; wrap env in gymnasium's FlattenObservation")
        self.net_arch = [64, 64] if net_arch is None else net_arch
        if not self.net_arch:
            raise DomainError("net_arch needs one hidden layer at least")
        self.activation_fn, self.exploration_eps = activation_fn, exploration_eps
        self.memory, self.ensemble = memory, ensemble
        self.features_extractor = self.make_features_extractor()
        sizes = [self.features_extractor.features_dim, *self.net_arch, int(action_space.n)]
        self.q_net = StackedMLP(ensemble, sizes, activation_fn)
        self.q_net_target = StackedMLP(ensemble, sizes, activation_fn).requires_grad_(False)
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        self.stack = QStack(memory, ensemble, sizes, activation_fn)
        if self.optimizer_class is torch.optim.Adam:
            # One kernel for all weights: about half of an optimiser's time for networks of this size.
            self.optimizer_kwargs = {"fused": True, **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.q_net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def set_training_mode(self, mode: bool) -> None:
        """No layer behaves differently; walking through all of them at each step of an environment takes time."""
        self.training = mode

    def features(self, observations: PyTorchObs) -> Tensor:
        """Inputs of the networks ``(batch, inputs)``."""
        return self.extract_features(observations, self.features_extractor)

    def logits(self, observations: PyTorchObs) -> Tensor:
        """Logits of the policy ``(batch, actions)``, before uniform actions are mixed in."""
        return self.stack(self.features(observations))

    def forward(self, observations: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self._predict(observations, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        logits = self.logits(observation)
        if deterministic:
            return logits.argmax(-1)
        mass = logits.softmax(-1)
        mass = (1 - self.exploration_eps) * mass + self.exploration_eps / mass.shape[-1]
        return torch.multinomial(mass, 1).squeeze(-1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            memory=self.memory,
            ensemble=self.ensemble,
            exploration_eps=self.exploration_eps,
            lr_schedule=self._dummy_schedule,
            optimizer_class=self.optimizer_class,
            optimizer_kwargs=self.optimizer_kwargs,
        )
        return data
