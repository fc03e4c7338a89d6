"""Where subscribers are kept, behind the two methods that a carrier calls for a node's Load and Persist.

    load(key) -> Subscriber | None     by any of its identities
    commit(change) -> None             durable when it returns; refused when it was made from an older version

`MemoryStore` keeps them in memory; a database stands behind the same two methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hss.subscriber import Subscriber, canonical
from imslab.core.errors import LocalError


class StaleChange(LocalError):
    """The record was changed by somebody else since it was loaded: committing would lose that, or repeat an SQN."""


@dataclass(frozen=True, slots=True)
class Change:
    """One subscriber, before and after. before None: a new one; after None: removed."""

    before: Subscriber | None
    after: Subscriber | None

    @property
    def id(self) -> str:
        """Which subscriber."""
        one = self.after or self.before
        if one is None:
            raise LocalError("a change from nothing to nothing")
        return one.id


class MemoryStore:
    """Subscribers in memory, found by every identity they have."""

    __slots__ = ("_by_id", "_by_key")

    def __init__(self, subscribers: Iterable[Subscriber] = ()) -> None:
        self._by_id: dict[str, Subscriber] = {}
        self._by_key: dict[str, str] = {}
        for subscriber in subscribers:
            self.add(subscriber)

    def load(self, key: str) -> Subscriber | None:
        """The subscriber that has this identity, private or public, in any spelling; None when nobody has it."""
        found = self._by_key.get(canonical(key))
        return None if found is None else self._by_id[found]

    def commit(self, change: Change) -> None:
        """Put a change in force, whole or not at all.

        Raises StaleChange when the record is not the one that the change was made from, LocalError when another
        subscriber has one of its identities.
        """
        identity = change.id
        stored = self._by_id.get(identity)
        if (None if stored is None else stored.version) != (None if change.before is None else change.before.version):
            raise StaleChange(f"{identity}: changed since it was loaded")
        after = change.after
        keys = after.keys if after is not None else []
        for key in keys:
            if self._by_key.get(key, identity) != identity:
                raise LocalError(f"{key} belongs to {self._by_key[key]}")
        if stored is not None:
            for key in stored.keys:
                del self._by_key[key]
        self._by_key.update(dict.fromkeys(keys, identity))
        if after is None:
            self._by_id.pop(identity, None)
        else:
            self._by_id[identity] = after

    def add(self, subscriber: Subscriber) -> None:
        """Add one. Raises LocalError when it, or one of its identities, is there already."""
        self.commit(Change(None, subscriber))

    def remove(self, key: str) -> None:
        """Remove the one who has this identity. Raises LocalError when there is none. Says nothing to any S-CSCF."""
        subscriber = self.load(key)
        if subscriber is None:
            raise LocalError(f"no subscriber has {key}")
        self.commit(Change(subscriber, None))

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)
