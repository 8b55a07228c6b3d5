"""What the page shows of an archive: facts, thumbnails, map tiles, and scenes at full resolution."""

from __future__ import annotations

import io
from typing import Annotated, Any

import numpy as np
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from PIL import Image

from lrsclip_jax.search.page.asking import Key
from lrsclip_jax.search.page.sentences import Refusal
from lrsclip_jax.search.page.service import Service

SIDE = 256  # pixels of a piece of a scene
_DEEPEST = 24
_LEAST_SHOWN = 12  # halvings of a scene, at most

Name = Annotated[Key, Query(description="a scene by its name in the archive")]


def router(service: Service, background: str | None) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(prefix="/api")

    @routes.get("/archive", summary="What the archive holds")
    async def archive() -> dict[str, Any]:
        """Counts, bounds, dates and scenes."""
        meta = service.index.meta
        about = {"name": meta["dataset"], "model": meta["model"], "background": background}
        return {**about, **service.facts}

    @routes.get("/status", summary="Whether the model is loaded")
    async def status() -> dict[str, Any]:
        """State ("loading", "ready" or "failed"), a sentence, and the seconds since the start."""
        return service.readiness.state()

    @routes.get("/thumbnail", summary="The thumbnail of a tile", response_class=Response)
    async def thumbnail(id: Annotated[Key, Query(description="id of a tile")]) -> Response:
        """A JPEG of 128 pixels."""
        jpeg = await run_sync(_thumbnail, service, id, limiter=service.viewing)
        if jpeg is None:
            raise Refusal(404, "The archive has no thumbnail of this tile.")
        return _picture(jpeg, "image/jpeg")

    @routes.get("/tiles/{z}/{x}/{y}.png", summary="The archive as tiles of a web map", response_class=Response)
    async def tile(
        z: Annotated[int, InPath(ge=0, le=_DEEPEST)],
        x: Annotated[int, InPath(ge=0)],
        y: Annotated[int, InPath(ge=0)],
        size: Annotated[int, Query(ge=64, le=512, description="pixels")] = SIDE,
    ) -> Response:
        """XYZ tiles in Web Mercator (EPSG:3857), as PNG, transparent where the archive has nothing."""
        if max(x, y) >= 1 << z:
            raise Refusal(404, f"Zoom {z} has {1 << z} columns and rows, numbered from 0.")
        return _picture(await run_sync(service.tiles.png, z, x, y, size, limiter=service.viewing), "image/png")

    @routes.get("/scene", summary="A scene")
    async def scene(scene: Name) -> dict[str, Any]:
        """Its size in pixels, its date and CRS, and how many tiles are of it."""
        row = service.views.row(scene)
        told = {name: row[name] for name in ("scene", "height", "width", "crs", "tiles", "empty", "status", "reason")}
        return {**told, "date": row["date"].isoformat() if row["date"] else None}

    @routes.get("/scene/piece", summary="A piece of a scene", response_class=Response)
    async def piece(
        scene: Name,
        halvings: Annotated[int, Query(ge=0, le=_LEAST_SHOWN, description="how often the scene is halved")],
        row: Annotated[int, Query(ge=0, description="in pieces of 256 pixels")],
        column: Annotated[int, Query(ge=0, description="in pieces of 256 pixels")],
    ) -> Response:
        """A JPEG of 256 × 256 of the scene's own pixels, black beyond its edge; halvings 0 is full resolution."""
        of = service.views.row(scene)
        height, width, by = of["height"] or 0, of["width"] or 0, 1 << halvings
        r0, c0 = row * SIDE * by, column * SIDE * by
        if r0 >= height or c0 >= width:
            raise Refusal(404, f"The scene has {height:,} rows and {width:,} columns: the piece lies outside.")
        r1, c1 = min(r0 + SIDE * by, height), min(c0 + SIDE * by, width)
        size = -(-(r1 - r0) // by), -(-(c1 - c0) // by)
        pixels = await run_sync(service.views.window, scene, (r0, r1, c0, c1), *size, limiter=service.viewing)
        whole = np.zeros((SIDE, SIDE, 3), np.uint8)
        whole[: size[0], : size[1]] = pixels
        return _picture(_jpeg(whole), "image/jpeg")

    return routes


def _thumbnail(service: Service, key: str) -> bytes | None:
    return service.thumbnails(service.index.tiles.rows_of([key]))[0]


def _picture(data: bytes, kind: str) -> Response:
    return Response(data, 200, {"Cache-Control": "private, max-age=3600"}, kind)


def _jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=88)
    return out.getvalue()
