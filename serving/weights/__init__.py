"""Weights of a serving pod: fetched, verified and stamped before they are served.

`check` is what the server asks at its start; `serving.weights.commands` holds the sub-commands.
"""

from serving.weights.checking import Checked, check
from serving.weights.errors import EXIT_WRONG_HASH, WeightsError, say_why
from serving.weights.stamps import State

__all__ = ["EXIT_WRONG_HASH", "Checked", "State", "WeightsError", "check", "say_why"]
