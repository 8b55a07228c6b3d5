"""Who may ask: host names, tokens, cookies, pages of other sites; and what browsers are told."""

import re

import pytest
from fastapi.testclient import TestClient

from lrsclip_jax.search.page.app import app_of
from lrsclip_jax.search.page.guard import COOKIE, is_loopback, policy

TOKEN = "correct-horse-battery"


@pytest.fixture
def locked(service):
    return TestClient(app_of(service, TOKEN), base_url="http://archive.example.org", follow_redirects=False)


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.com", "127.0.0.1.nip.io", "", "10.0.0.5", "a b"])
def test_another_host_name_is_refused_without_a_token(host, client):
    answer = client.get("/api/archive", headers={"host": host})
    assert answer.status_code == 421 and answer.json() == {"error": "This server does not answer to that host name."}


@pytest.mark.parametrize("host", ["localhost", "localhost:8600", "127.0.0.1:8600", "[::1]:8600", "LOCALHOST"])
def test_names_of_this_machine_are_answered(host, client):
    assert client.get("/api/archive", headers={"host": host}).status_code == 200


def test_every_answer_carries_the_policy(client):
    for path in ("/", "/api/archive", "/api/nothing", "/static/main.js", "/docs", "/health"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == policy(None), path
        assert (
            headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
        )
    assert "default-src 'none'" in policy(None) and "unsafe" not in policy(None)
    assert "script-src 'self';" in policy(None) and "require-trusted-types-for 'script'" in policy(None)
    assert "https://*.example.org " in policy("https://{s}.example.org/{z}/{x}/{y}.png").replace(";", " ;")


def test_the_page_has_no_inline_code(client):
    page = client.get("/").text
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=|javascript:", page)


def test_pages_of_other_sites_may_lead_here_but_not_ask(client):
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    assert client.get("/api/archive", headers=foreign).status_code == 403
    assert client.post("/api/images", content=b"x", headers=foreign | {"sec-fetch-mode": "navigate"}).status_code == 403
    assert client.get("/", headers=foreign | {"sec-fetch-mode": "navigate"}).status_code == 200


def test_nothing_but_health_is_answered_without_the_token(locked):
    assert locked.get("/health").status_code == 200
    for path in (
        "/api/archive",
        "/api/search?text=a",
        "/docs",
        "/openapi.json",
        "/static/main.js",
        "/api/tiles/0/0/0.png",
    ):
        answer = locked.get(path)
        assert answer.status_code == 401 and answer.json() == {"error": "This archive asks for its token."}, path
    page = locked.get("/?text=%22%3E%3Cscript%3E")
    assert page.status_code == 401 and "type=password" in page.text and "<script" not in page.text


@pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], TOKEN + "x", "é" * 8, "Bearer"])
def test_a_wrong_token_is_refused(given, locked):
    header = f"Bearer {given}".encode()
    assert locked.get("/api/archive", headers={"authorization": header}).status_code == 401
    assert locked.get("/", params={"token": given}).status_code == 401
    assert locked.get("/api/archive", cookies={COOKIE: "x"}).status_code == 401
    assert locked.get("/api/archive", params={"token": TOKEN}).status_code == 401  # an address is kept and shown


def test_the_token_opens_by_a_header(locked):
    assert locked.get("/api/archive", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_token_in_an_address_becomes_a_cookie_and_the_search_stays(locked):
    answer = locked.get("/", params={"token": TOKEN, "text": "a harbour", "not": "fog"})
    assert answer.status_code == 303 and answer.headers["location"] == "/?text=a+harbour&not=fog"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie and "Secure" not in cookie
    assert locked.get("/api/archive").status_code == 200  # the client has kept it
    safe = locked.get("/", params={"token": TOKEN}, headers={"x-forwarded-proto": "https"})
    assert "; Secure" in safe.headers["set-cookie"]


def test_a_link_from_elsewhere_asks_once_more_so_that_the_strict_cookie_comes(locked):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = locked.get("/?text=a", headers=link)
    assert answer.status_code == 200 and "http-equiv=refresh" in answer.text
    assert locked.get("/?text=a", headers=link | {"sec-fetch-site": "same-origin"}).status_code == 401


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_what_other_machines_cannot_reach(host, loopback):
    assert is_loopback(host) is loopback
