"""Finetuning: train every task on from the last, and forget.

Nothing is remembered and nothing is protected; it is what every method is measured against.
"""

from __future__ import annotations

from ness_cli.methods.base import Method


class Finetune(Method):
    """The base method as it is."""
