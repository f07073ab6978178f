"""What comes in becomes items and contents, as a domain's backbone reads them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

from service.blobs import Blobs
from service.pictures import PixelBudget
from service.schemas import ItemBody, ItemPatch, RawItem
from service.state import ChangedItem, Item
from transrec.backbone import Backbone
from transrec.content import BETWEEN, Content, Picture, joined
from transrec.errors import ContentError


class Intake:
    """Checks and keeps what one backbone embeds."""

    def __init__(self, backbone: Backbone, blobs: Blobs, pixels: PixelBudget | None = None) -> None:
        self._backbone, self._blobs = backbone, blobs
        self._pixels = pixels or PixelBudget()
        self._reads = backbone.config.modalities

    @property
    def reads_images(self) -> bool:
        """Whether items of this backbone may have pictures."""
        return "image" in self._reads

    def item(self, body: ItemBody) -> Item:
        """Return what state keeps of an item; its picture is kept beside.

        Raises:
            ValueError: it has nothing that the backbone reads, a picture that nobody reads, or one that is damaged;
            OutOfSpace.
        """
        text, picture = as_text(body.text) or body.title or "", body.image_b64
        self._check(text, has_picture=picture is not None)
        image = self._kept(picture) if picture is not None else ""
        return Item(body.item_id, text, body.popularity, body.metadata(), image, body.available)

    def patched(self, before: Item, patch: ItemPatch) -> Item:
        """Return an item with what a patch names changed.

        Raises:
            ValueError: as `item`; OutOfSpace.
        """
        given = patch.model_fields_set
        named = {name: getattr(patch, name) for name in ("title", "category", "timestamp") if name in given}
        merged = before.metadata | named | (patch.attributes or {})
        metadata = {name: value for name, value in merged.items() if value is not None}
        text, image = before.text, before.image
        if "text" in given:
            text = as_text(patch.text) or str(metadata.get("title", ""))
        elif text == before.metadata.get("title"):  # it was the title that is embedded, and still is
            text = str(metadata.get("title", ""))
        if "image_b64" in given:
            image = self._kept(patch.image_b64) if patch.image_b64 is not None else ""
        self._check(text, has_picture=bool(image))
        popularity = before.popularity if patch.popularity is None else patch.popularity
        available = before.available if patch.available is None else patch.available
        return Item(before.item_id, text, popularity, metadata, image, available)

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

    def contents_of(self, items: Iterable[Item | ChangedItem]) -> list[Content]:
        """Return what is embedded of items, one by one."""
        listed = list(items)
        return self.contents([item.text for item in listed], [item.image for item in listed])


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
