"""Open networks belong to the process that opened them."""

from __future__ import annotations

import os

from shitu_cli.errors import UsageError


class OfOneProcess:
    """A base of what holds an open network, which is refused in any other process instead of waiting there forever.

    A forked process has none of the threads that some programs compute on; a pickled one would have no network.
    """

    _process: int | None = None

    def __init__(self) -> None:
        self._process = os.getpid()

    def __copy__(self) -> OfOneProcess:
        """Return another one of the same network, in this process."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        """Refuse to be pickled, as `multiprocessing` does with arguments, and to be copied with its network."""
        raise self._elsewhere("cannot be sent to another process, and its network cannot be copied")

    def _require_own_process(self) -> None:
        """Raise UsageError in a process that was forked after this was opened."""
        if self._process not in (None, os.getpid()):
            raise self._elsewhere("was opened before this process was started from another one, and works only there")

    def _elsewhere(self, why: str) -> UsageError:
        name = type(self).__name__
        return UsageError(
            f"this {name} {why}",
            hint="open one in each process, such as in the function given as initializer= to multiprocessing.Pool; "
            "threads may share one",
        )
