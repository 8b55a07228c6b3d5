"""Searches as programs and the page ask them: GeoJSON, exports, dropped images, heat maps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from lrsclip_jax.search.page import archive, dropped
from lrsclip_jax.search.page.asking import Key, Search
from lrsclip_jax.search.page.service import Service

_EXPORTS = {
    "geojson": ("application/geo+json", "found.geojson"),
    "gpkg": ("application/geopackage+sqlite3", "found.gpkg"),
    "csv": ("text/csv; charset=utf-8", "found.csv"),
}


class OfTile(Search):
    """A search, and the tile around which its heat is drawn."""

    id: Key = Query(description="id of a tile, as a search gives it")


def router(service: Service) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(prefix="/api")

    @routes.get("/search", summary="Search the archive", response_class=GeoJSON)
    async def search(asked: Annotated[Search, Query()]) -> Response:
        """The best tiles for texts, images and examples, best first, as a GeoJSON FeatureCollection.

        Each feature is the footprint of a tile in WGS 84, or null without a place. Its properties say the scene, the
        window in pixels, the date, the cosine, and how unusual that cosine is in this archive.
        """
        await service.readiness.wait()
        hits = await run_sync(service.search, asked, limiter=service.asking)
        return GeoJSON(hits.to_geojson())

    @routes.get("/sample", summary="Tiles spread evenly over the archive", response_class=GeoJSON)
    async def sample(top: Annotated[int, Query(ge=1, le=100)] = 24) -> Response:
        """Some tiles without a search, to begin from."""
        features = await run_sync(archive.sample, service.index, top, limiter=service.viewing)
        return GeoJSON({"type": "FeatureCollection", "features": features})

    @routes.get("/export/{form}", summary="Search, and get a file", response_class=Response)
    async def export(
        form: Annotated[Literal["geojson", "gpkg", "csv"], InPath(description="geojson, gpkg or csv")],
        asked: Annotated[Search, Query()],
    ) -> Response:
        """The same hits as a file: GeoJSON, GeoPackage or CSV."""
        await service.readiness.wait()
        data = await run_sync(_written, service, asked, form, limiter=service.asking)
        kind, name = _EXPORTS[form]
        return Response(data, 200, {"Content-Disposition": f'attachment; filename="{name}"'}, kind)

    @routes.post("/images", summary="Bring an image to search with", status_code=201)
    async def bring(request: Request) -> dict[str, str]:
        """Takes the bytes of an image as the body, and answers with the key under which searches name it.

        JPEG, PNG, WebP, BMP, TIFF or JPEG 2000, at most 32 MiB and 64 megapixels.
        """
        data = await dropped.body(request.stream(), request.headers.get("content-length"))
        await service.readiness.wait()
        model = service.index.model
        image = await run_sync(dropped.decoded, data, model.preprocessing, model.layout, limiter=service.asking)
        service.shelf.put(image)
        return {"image": image.key}

    @routes.get("/images/{key}", summary="An image that was brought", response_class=Response)
    async def brought(key: Annotated[str, InPath(pattern="^[0-9a-f]{24}$")]) -> Response:
        """A small JPEG of it."""
        return Response(service.shelf.get(key).jpeg, 200, {"Cache-Control": "private, max-age=86400"}, "image/jpeg")

    @routes.get("/heat", summary="The heat map of a search around a tile", response_class=Response)
    async def heat(asked: Annotated[OfTile, Query()]) -> Response:
        """A PNG with transparency; the header X-Window has the pixels of the scene it covers: r0,r1,c0,c1."""
        await service.readiness.wait()
        found = await run_sync(service.heat_map, asked.id, asked, limiter=service.heating)
        headers = {
            "X-Window": ",".join(map(str, found.window)),
            "X-Hottest": f"{found.hottest:.3f}",
            "Cache-Control": "private, max-age=600",
        }
        return Response(found.png, 200, headers, "image/png")

    return routes


class GeoJSON(JSONResponse):
    """An answer in GeoJSON."""

    media_type = "application/geo+json"


def _written(service: Service, asked: Search, form: str) -> bytes:
    hits = service.search(asked)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"found.{form}"
        hits.write(path)
        return path.read_bytes()
