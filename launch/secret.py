"""What tells the agents of a launch from strangers: a secret in the environment of every node."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from trainer.config import LaunchConfig
from trainer.utils.errors import UserError

VARIABLE = "ISOFLOP_RENDEZVOUS_SECRET"
CHARACTERS = 32  # at least: who listens may try secrets on what the nodes have written
MAKE = "python3 -c 'import secrets; print(secrets.token_hex(32))'"


def is_needed(launch: LaunchConfig) -> bool:
    """Whether the agents of this launch seal what they tell each other."""
    return launch.nodes > 1 and launch.rendezvous == "c10d"


def launch_secret(environment: Mapping[str, str]) -> str:
    """The secret of this launch: the one in the environment, if any, so that a node can be started by hand later."""
    return environment.get(VARIABLE) or secrets.token_hex(32)


def require_secret(launch: LaunchConfig) -> None:
    """Raise UserError where this node needs the secret and has none, or one that can be guessed."""
    length = len(os.environ.get(VARIABLE, ""))
    if is_needed(launch) and length < CHARACTERS:
        what = f"has {length} characters, at least {CHARACTERS} are wanted" if length else "is not set on this node"
        raise UserError(
            f"{VARIABLE} {what}: export the same one on every node, e.g. of {MAKE}, or take launch.rendezvous=static"
        )
