"""Checks that agents on finite action sets make before anything is trained."""

import math

from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.type_aliases import GymEnv

from mirrorgen.errors import DomainError

__all__ = ["check_number", "discrete_environment"]


def check_number(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Raise a DomainError that names the argument unless ``low <= value <= high`` (``low < value`` if ``above``).

    Args:
        name: Of the argument.
        value: What was given; neither NaN nor infinite.
        low: Smallest value.
        high: Largest value.
        above: Whether ``low`` itself is excluded.

    Raises:
        DomainError: If the number is outside.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and (value > low if above else value >= low) and value <= high:
        return
    ends = f"{'above' if above else 'at least'} {low:g}" + ("" if math.isinf(high) else f" and at most {high:g}")
    raise DomainError(f"{name} must be a finite number {ends}, got {value!r}")


def discrete_environment(env: GymEnv | str | None, agent: str, verbose: int = 0) -> GymEnv | None:
    """The environment, made if it is a name, after a look at its actions.

    Args:
        env: An environment, a vector of them, a registered name, or None (a saved model being loaded).
        agent: Name for the message.
        verbose: Whether making it is reported.

    Raises:
        DomainError: If actions are not ``Discrete(n)`` with ``n >= 2``, counted from zero.
    """
    if env is None:
        return None
    made = maybe_make_env(env, verbose)
    actions = made.action_space
    if not isinstance(actions, spaces.Discrete):
        raise DomainError(
            f"{agent} needs a Discrete action space, env has {actions}; use MDPO for continuous actions, or a wrapper "
            "that numbers the combinations"
        )
    if actions.n < 2 or actions.start != 0:
        raise DomainError(f"{agent} needs at least two actions that count from zero, env has {actions}")
    return made
