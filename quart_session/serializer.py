"""The tagged-JSON serializer of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from quart_session._hotpath import Codec
from quart_session._pure.encoding import Tagger
from quart_session._pure.registry import Registry
from quart_session._pure.tags import JSONTag

__all__ = ["JSONTag", "TaggedJSONSerializer"]


class SerializerMethods:
    """What the serializer adds to a codec, whichever arm that is of."""

    _registry: Registry

    def __init__(self, tags: Literal["full", "flask"] = "full") -> None:
        if tags not in ("full", "flask"):
            raise ValueError(f"tags must be 'full' or 'flask', not {tags!r}")
        super().__init__(Registry(full=tags == "full"))  # type: ignore[call-arg]

    if TYPE_CHECKING:

        def _refresh(self) -> None: ...

    @property
    def tags(self) -> dict[str, Any]:
        """The tags by key.

        .. versionadded:: 4.0
        """
        return self._registry.tags

    @property
    def order(self) -> list[Any]:
        """The tags in the order in which a value is offered to them: Flask's own and registered
        ones. This project's further tags come after all of these.

        .. versionadded:: 4.0
        """
        return self._registry.order

    def register(self, tag_class: type[Any], force: bool = False, index: int | None = None) -> None:
        """Add a tag: a subclass of ``flask.json.tag.JSONTag``, or a class with its methods.

        As in Flask, a value is offered to the tags in their order. One exception keeps strings,
        numbers and None fast: a tag registered without *index* is asked about these only if it
        claims one of a few samples when it is registered.

        :param force: replace a tag with the same key.
        :param index: where in the order to put it; at the end without.
        :raises KeyError: the key is taken and *force* is not set.

        .. versionadded:: 4.0
        """
        self._registry.register(tag_class(self), force, index)
        self._refresh()

    def tag(self, value: Any) -> Any:
        """*value* as a tree of plain JSON values, for use in a tag's ``to_json``.

        :raises CodecError: the value cannot be stored.

        .. versionadded:: 4.0
        """
        return Tagger(self._registry, inner=True).build(value)

    def untag(self, value: dict[str, Any]) -> Any:
        """The value for which the dict *value* stands, if its one key is a tag; else itself.

        .. versionadded:: 4.0
        """
        if len(value) == 1:
            ((key, body),) = value.items()
            if key in self._registry.tags:
                return self._registry.tags[key].to_python(body)
        return value


class TaggedJSONSerializer(SerializerMethods, Codec):
    """Turns a session into one JSON document and back without losing types.

    Documents are those of ``flask.json.tag.TaggedJSONSerializer``, with more tags where Flask's
    would lose something; see the format description in the documentation. ``dumps(value)`` gives
    bytes, ``loads(data)`` takes bytes, bytearray, memoryview or str; both raise
    :exc:`~quart_session.errors.CodecError`.

    :param tags: ``"full"``, or ``"flask"`` to write exactly what Flask writes. Reading knows all
        tags either way.

    .. versionadded:: 4.0
    """
