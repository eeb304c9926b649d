"""Three-way merge of two documents that grew from the same base, by top-level keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

_MISSING = object()


def changed_keys(
    base: Mapping[Any, Any], now: Mapping[Any, Any], encode: Callable[[Any], bytes]
) -> Iterator[Any]:
    """The keys that were added, removed or given another value between *base* and *now*.

    Values are compared by their encoded bytes: ``1 == True`` and ``[1] == [1.0]`` in Python, but
    they are not the same session. The key itself is left out, since pickle writes a value that
    refers to it differently from one that is equal to it.
    """
    for key in {**base, **now}:
        before, after = base.get(key, _MISSING), now.get(key, _MISSING)
        if before is _MISSING or after is _MISSING or encode({"": before}) != encode({"": after}):
            yield key


def merge(
    mine: Mapping[Any, Any], theirs: Mapping[Any, Any], my_keys: Collection[Any]
) -> dict[Any, Any]:
    """*theirs*, but with the keys in *my_keys* as they are in *mine*: set, or deleted."""
    merged = {key: value for key, value in theirs.items() if key not in my_keys}
    merged.update((key, value) for key, value in mine.items() if key in my_keys)
    return merged
