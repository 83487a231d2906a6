"""What the benchmarks share: each thing is made when it is first asked for, and ends with the lab."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.operator import Operator
    from bench.rig import Rig


class Lab:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    @cached_property
    def operator(self) -> Operator:
        from bench.operator import operator

        return self._stack.enter_context(operator())

    @cached_property
    def containers(self) -> Operator:
        """One whose bottles are containers, and reach what any would."""
        from bench.operator import operator

        return self._stack.enter_context(operator("docker"))

    @cached_property
    def rig(self) -> Rig:
        from bench.rig import rig

        return self._stack.enter_context(rig())
