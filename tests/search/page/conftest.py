"""Without a web server the tests of the page are left out; one archive and one open index serve them all."""

import time
from importlib.util import find_spec

import pytest

if not (find_spec("fastapi") and find_spec("uvicorn") and find_spec("rio_tiler")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    import served_archive

    return served_archive.make(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def service(archive):
    import lrsclip_jax.search
    from lrsclip_jax.search.page.service import Service

    service = Service(lrsclip_jax.search.open(archive))
    yield service
    wait_for(service)


def wait_for(service):
    """Returns when the loading thread is done: Python would abort if it ended meanwhile."""
    while service.readiness.working:
        time.sleep(0.05)


@pytest.fixture(scope="session")
def client(service):
    from fastapi.testclient import TestClient

    from lrsclip_jax.search.page.app import app_of

    with TestClient(app_of(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client
