"""What comes in becomes items and contents, as a domain's backbone reads them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.content.blobs import Blobs
from service.content.pictures import PixelBudget
from service.state import ChangedItem, StoredItem
from service.wire.requests import MAX_ATTRIBUTES_BYTES, ItemBody, ItemPatch, RawItem
from transrec.backbone import Backbone
from transrec.content import BETWEEN, Content, Picture, joined
from transrec.errors import ContentError

MAX_METADATA_BYTES = MAX_ATTRIBUTES_BYTES + 16 * 1024
OWN = ("title", "category", "timestamp")
"""Fields that are kept beside the attributes, in what is shown of an item."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """What a row names of an item, its picture by digest:
    null is the default, what is not named stays.
    """

    item_id: str
    given: Mapping[str, Any]

    @property
    def text_size(self) -> int:
        """Characters of what is embedded, about."""
        return len(as_text(self.given.get("text")) or self.given.get("title") or "")


class ItemReader:
    """Checks and keeps what one backbone embeds."""

    def __init__(self, backbone: Backbone, blobs: Blobs, pixels: PixelBudget | None = None) -> None:
        self._backbone = backbone
        self._blobs = blobs
        self._pixels = pixels or PixelBudget()
        self._reads = backbone.config.modalities

    @property
    def reads_images(self) -> bool:
        """Whether items of this backbone may have pictures."""
        return "image" in self._reads

    def item(self, body: ItemBody) -> StoredItem:
        """Return what state keeps of an item that is new, or replaces another; its picture is kept
        beside.

        Raises:
            ValueError: it has nothing that the backbone reads, a picture that nobody reads, or one
                that is damaged;
            OutOfSpace.
        """
        return self.merged(self.row(body), None)

    def row(self, body: ItemBody | ItemPatch, item_id: str = "") -> ItemRow:
        """Check what can be checked of a row without the item that it changes; its picture is kept.

        Raises:
            ValueError: a picture that nobody reads, or one that is damaged; OutOfSpace.
        """
        given = {name: getattr(body, name) for name in body.model_fields_set}
        picture = given.pop("image_b64", None)
        if "image_b64" in body.model_fields_set:
            given["image"] = "" if picture is None else self._kept(picture)
        return ItemRow(given.pop("item_id", item_id), given)

    def merged(self, row: ItemRow, before: StoredItem | None) -> StoredItem:
        """Return an item with what a row names changed; of a new one the rest has its default.

        Raises:
            ValueError: then nothing that the backbone reads is left, or it is too much.
        """
        given = row.given
        before = before or StoredItem(row.item_id, "")
        metadata = _metadata(before, given)
        text = _text(before, given)
        image = given.get("image", before.image)
        self._check(text, has_picture=bool(image))
        popularity = given.get("popularity", before.popularity) or 0.0
        available = given.get("available", before.available)
        return StoredItem(row.item_id, text, popularity, metadata, image, available is not False)

    def patched(self, before: StoredItem, patch: ItemPatch) -> StoredItem:
        """Return an item with what a patch names changed.

        Raises:
            ValueError: as `row` and `merged`; OutOfSpace.
        """
        return self.merged(self.row(patch, before.item_id), before)

    def bind_patch(self, patch: ItemPatch) -> Callable[[StoredItem], StoredItem]:
        """Return what changes an item as a patch says, with its picture made durable.

        What it raises is a ValueError or OutOfSpace, as of `patched`.
        """

        def change(before: StoredItem) -> StoredItem:
            after = self.patched(before, patch)
            self.settle()
            return after

        return change

    def _check(self, text: str, *, has_picture: bool) -> None:
        if has_picture and not self.reads_images:
            raise ContentError("image_b64: the backbone of this domain reads texts only")
        if not (text and "text" in self._reads) and not has_picture:
            needed = {"text": "title or text", "image": "image_b64"}
            wanted = " or ".join(needed[modality] for modality in self._reads)
            raise ContentError(f"{wanted} is needed: it is what the model reads")
        if "text" in self._reads:
            self._backbone.check_attributes(text)

    def _kept(self, picture: str) -> str:
        if not self.reads_images:
            raise ContentError("image_b64: the backbone of this domain reads texts only")
        content = decoded(picture)
        self._pixels.check(content)
        return self._blobs.keep(content)

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return which share of the tokens of texts the backbone's tokenizer does not know."""
        return self._backbone.unknown_share(texts) if "text" in self._reads else 0.0

    def settle(self) -> None:
        """Make the pictures durable before the items that name them are."""
        if self.reads_images:
            self._blobs.settle()

    def contents(self, texts: Sequence[str], images: Sequence[str]) -> list[Content]:
        """Return what is embedded of items, by their texts and the digests of their pictures."""
        texts = texts if "text" in self._reads else [""] * len(texts)
        if not self.reads_images:
            return [Content(text) for text in texts]
        return [
            Content(text, self._blobs.picture(image) if image else None)
            for text, image in zip(texts, images, strict=True)
        ]

    def contents_of(self, items: Iterable[StoredItem | ChangedItem]) -> list[Content]:
        """Return what is embedded of items, one by one."""
        listed = list(items)
        return self.contents([item.text for item in listed], [item.image for item in listed])


def _text(before: StoredItem, given: Mapping[str, Any]) -> str:
    """Return what is embedded: the text or, without one, the title."""
    text = as_text(given.get("text"))
    if text:
        return text
    was_title = before.text == before.metadata.get("title") or (
        not before.text and "title" in given
    )
    if "text" not in given and not was_title:
        return before.text
    title = given["title"] if "title" in given else before.metadata.get("title")
    return str(title or "")


def _metadata(before: StoredItem, given: Mapping[str, Any]) -> dict[str, Any]:
    attributes = given.get("attributes", {})
    kept = before.metadata
    if attributes is None:
        kept = {name: kept[name] for name in OWN if name in kept}
    named = {name: given[name] for name in OWN if name in given}
    merged = kept | named | (attributes or {})
    found = {name: value for name, value in merged.items() if value is not None}
    # One body is bounded by its schema; many that each name others are bounded here.
    if kept and attributes and (size := len(json.dumps(found))) > MAX_METADATA_BYTES:
        raise ContentError(
            f"attributes: with those there are {size} bytes, at most {MAX_METADATA_BYTES} are kept"
        )
    return found


def raw_content(backbone: Backbone, entry: RawItem, pixels: PixelBudget) -> Content:
    """Return what is embedded of an item that no catalog has.

    Raises:
        ValueError: it has nothing that the backbone reads, or a picture that is damaged.
    """
    image = None
    if entry.image_b64 is not None and "image" in backbone.config.modalities:
        content = decoded(entry.image_b64)
        pixels.check(content)
        image = Picture.of(content)
    return backbone.read(Content(as_text(entry.text), image))


def as_text(given: str | Sequence[str] | None) -> str:
    """Return one text of a text, of its attributes, or of nothing."""
    if given is None or isinstance(given, str):
        return given or ""
    return joined(given)


def as_attributes(text: str) -> str | list[str]:
    """Return the attributes of a text that has several, else itself."""
    return text.split(BETWEEN) if BETWEEN in text else text


def decoded(picture: str) -> bytes:
    """Return the bytes of a picture in base64, also as a data URL.

    Raises:
        ContentError: it is no base64.
    """
    if picture.startswith("data:"):
        picture = picture.partition(",")[2]
    try:
        return base64.b64decode(picture, validate=True)
    except binascii.Error as error:
        raise ContentError(f"image_b64: not base64: {error}") from error
