"""The web server of an archive: the page, and what it and programs ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from lrsclip_jax.search.page import answers, documentation, pictures, sentences
from lrsclip_jax.search.page.guard import App, Guard
from lrsclip_jax.search.page.service import Service

STATIC = Path(__file__).with_name("static")
_ABOUT = """Searches an archive of imagery by text, by image and by example. Every error is a JSON object with one
sentence, {"error": "…"}."""


def app_of(service: Service, token: str | None = None, background: str | None = None) -> App:
    """Returns the ASGI application.

    Args:
      service: an open index.
      token: what every request must carry; None: requests by a loopback name alone are answered.
      background: the URL of a background map's tiles with {z}, {x} and {y}; None: the archive's scenes alone.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.readiness.begin()
        yield

    title = f"{service.index.meta['dataset']}: search"
    app = FastAPI(title=title, description=_ABOUT, version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.include_router(answers.router(service))
    app.include_router(pictures.router(service, background))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/health", summary="Whether the server works")
    async def health() -> Response:
        """Status 200 while the model loads and after, 503 where it can't be loaded."""
        state = service.readiness.state()["state"]
        return JSONResponse({"state": state}, 503 if state == "failed" else 200, {"Cache-Control": "no-store"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(documentation.page(app.openapi()))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    sentences.install(app, str(service.index.path))
    return Guard(app, token, background)
