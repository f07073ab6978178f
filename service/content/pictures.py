"""Pictures that come in requests:
how many pixels they may have, and the few threads that look at them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio import to_thread

from transrec.images import MAX_PIXELS, check

PICTURE_THREADS = 4
OF_DOMAIN = 2
"""Requests with pictures of one domain at once;
others of it wait, so that the threads are not one domain's.
"""
MAX_REQUEST_PIXELS = 2 * MAX_PIXELS
"""Of all pictures of a history, or of items to embed."""

T = TypeVar("T")


class PictureThreads:
    """Runs what unpacks pictures beside the threads that everything else shares: many large ones
    keep nobody waiting.

    Args:
        max_pixels: of one picture.
        threads: that look at pictures at once.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, threads: int = PICTURE_THREADS) -> None:
        self.max_pixels = max_pixels
        self._limiter = anyio.CapacityLimiter(threads)
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self, call: Callable[[], T]) -> T:
        """Call in one of the threads."""
        return await to_thread.run_sync(call, limiter=self._limiter)

    async def run_of(self, domain: str, call: Callable[[], T]) -> T:
        """Call in one of the threads, in a place of its domain."""
        async with self.place(domain):
            return await self.run(call)

    @asynccontextmanager
    async def place(self, domain: str) -> AsyncIterator[None]:
        """Hold one of a domain's places; used on the event loop only."""
        place = self._places.get(domain)
        if place is None:
            place = self._places[domain] = asyncio.Semaphore(OF_DOMAIN)
        async with place:
            yield

    def of_request(self) -> PixelBudget:
        """Return what the pictures of one request may have."""
        return PixelBudget(self.max_pixels, MAX_REQUEST_PIXELS)


class PixelBudget:
    """Pixels that pictures may have: each of them, and all together."""

    def __init__(self, each: int = MAX_PIXELS, together: int | None = None) -> None:
        self._each = each
        self._left = together

    def check(self, content: bytes) -> None:
        """Read a picture to its end, and count its pixels.

        Raises:
            ImageError: it is damaged, too large, or they are too many together.
        """
        limit = self._each if self._left is None else min(self._each, self._left)
        count = check(content, "image_b64", limit)
        if self._left is not None:
            self._left -= count
