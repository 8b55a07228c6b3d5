"""The page in a browser: type, drop an image, draw, open a hit with its heat map, refine, export; keys, phone, dark."""

import contextlib
import os
import re
import shutil

import pytest
from served_archive import ODD, noise, serving

playwright_api = pytest.importorskip("playwright.sync_api")
expect = playwright_api.expect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.fixture(scope="module")
def address(service):
    from lrsclip_jax.search.page.app import app_of

    with serving(app_of(service)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(browser, address):
    """Returns visit(path, **context): a new visitor's page, of which nothing may go wrong or leave this machine."""
    wrong = []
    with contextlib.ExitStack() as stack:

        def visit(path="/", **context):
            visitor = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | context))
            stack.callback(visitor.close)
            page = visitor.new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: wrong.append(f"{error}"))
            page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
            here = (address, "blob:", "data:")
            page.on("request", lambda asked: asked.url.startswith(here) or wrong.append(asked.url))
            page.goto(f"{address}{path}")
            expect(page.locator("#hits .open").first).to_be_visible(timeout=60_000)
            return page

        yield visit
    assert wrong == []


def ids(page):
    return page.locator("#hits > li").evaluate_all("cards => cards.map(card => card.dataset.id)")


def ask(page, text):
    page.locator("#text").fill(text)
    with page.expect_response(re.compile("/api/search")):
        page.locator("#text").press("Enter")
    expect(page.locator("#list")).to_have_attribute("aria-busy", "false")


def test_typing_finds_and_the_address_can_be_sent_to_someone(visit, service):
    page = visit()
    expect(page.locator("#said")).to_contain_text("Type what to look for")
    ask(page, "a harbour & <b>fog</b>")
    expected = [hit.id for hit in service.index.search(text="a harbour & <b>fog</b>")]
    assert ids(page) == expected
    assert page.locator("#hits .score").first.inner_text() and page.locator("#map path.leaflet-interactive").count() > 5
    assert ids(visit(page.url[page.url.index("/?") :])) == expected
    page.locator("#text").fill("a field")
    page.locator("#text").press("Enter")
    expect(page).to_have_url(re.compile("text=a\\+field"))
    page.go_back()
    expect(page.locator("#text")).to_have_value("a harbour & <b>fog</b>")
    expect(page.locator("#hits > li").first).to_have_attribute("data-id", expected[0])


def test_an_image_is_dropped_and_searched_with(visit, service):
    import base64
    import io

    import numpy as np
    from PIL import Image

    pixels, data = noise(np.random.default_rng(5), 48), io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    page = visit()
    page.evaluate(
        """encoded => {
            const bytes = Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "found.png", { type: "image/png" }));
            const how = { dataTransfer: data, bubbles: true, cancelable: true };
            for (const kind of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, how));
        }""",
        base64.b64encode(data.getvalue()).decode(),
    )
    expect(page.locator("#parts li")).to_contain_text("image")
    expect(page.locator("#hits .score").first).to_be_visible()
    assert ids(page) == [hit.id for hit in service.index.search(image=Image.fromarray(pixels))]
    page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    expect(page.locator("#said")).to_contain_text("That is no image")
    page.locator("#file").set_input_files({"name": "torn.png", "mimeType": "image/png", "buffer": data.getvalue()[:90]})
    expect(page.locator("#said")).to_contain_text("torn or damaged")


@pytest.mark.exhaustive
def test_a_rectangle_and_a_polygon_hold_the_search_to_an_area(visit):
    page = visit("/?text=a+field&scene=harbour.tif")
    page.wait_for_timeout(300)
    box = page.locator("#map").bounding_box()

    def at(right, down):
        return box["x"] + box["width"] * right, box["y"] + box["height"] * down

    page.locator("#rectangle").click()
    expect(page.locator("#hint")).to_contain_text("Drag a rectangle")
    page.mouse.move(*at(0.1, 0.1))
    page.mouse.down()
    page.mouse.move(*at(0.3, 0.3))
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.up()
    expect(page).to_have_url(re.compile("bbox="))
    expect(page.locator("#parts")).to_contain_text("in a rectangle")
    expect(page.locator("#list")).to_have_attribute("aria-busy", "false")
    west, south, east, north = map(float, re.search(r"bbox=([^&]+)", page.url)[1].replace("%2C", ",").split(","))
    assert west < east and south < north
    within = page.request.get(page.url.replace("/?", "/api/search?")).json()
    assert 0 < len(within["features"]) < 16
    for feature in within["features"]:
        assert feature["bbox"][0] < east and west < feature["bbox"][2]
    page.get_by_role("button", name="Take away: in a rectangle").click()
    expect(page).not_to_have_url(re.compile("bbox="))
    page.locator("#polygon").click()
    box = page.locator("#map").bounding_box()
    for corner in ((0.2, 0.2), (0.6, 0.2), (0.6, 0.6)):
        page.mouse.click(*at(*corner))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("within="))
    expect(page.locator("#parts")).to_contain_text("in a polygon")


def test_a_hit_opens_with_its_heat_map_and_closes(visit):
    page = visit("/?text=a+field&scene=harbour.tif")
    page.locator("#hits .open").nth(1).click()
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#viewer-name")).to_have_text("harbour.tif")
    expect(page.locator("#scene-map img.heat")).to_be_visible(timeout=60_000)
    expect(page.locator("#scene-map .pieces img").first).to_be_visible()
    assert page.locator("#scene-map img.heat").evaluate("image => image.naturalWidth") == 384
    page.keyboard.press("h")
    expect(page.locator("#scene-map img.heat")).to_have_css("opacity", "0")
    first = page.url
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(first)
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).not_to_be_visible()
    expect(page).not_to_have_url(re.compile("tile="))


@pytest.mark.exhaustive
def test_more_and_less_like_this_refine_the_search(visit, service):
    page = visit("/?text=a+field")
    first, second = ids(page)[:2]
    page.locator("#hits > li").nth(0).hover()
    page.locator("#hits > li").nth(0).get_by_role("button", name="Less like this").click()
    expect(page.locator("#parts")).to_contain_text("less like")
    expect(page.locator("#list")).to_have_attribute("aria-busy", "false")
    page.locator(f'#hits > li[data-id="{second}"] .open').click()
    page.locator("#more").click()
    expect(page.locator("#viewer")).not_to_be_visible()
    expect(page.locator("#parts")).to_contain_text("more like")
    expect(page.locator("#list")).to_have_attribute("aria-busy", "false")
    assert ids(page) == [hit.id for hit in service.index.search(text="a field", more=[second], less=[first])]


def test_exports_are_downloaded(visit, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    page = visit("/?text=a+field&bbox=6%2C50%2C8%2C52")
    for name in ("geojson", "gpkg"):
        with page.expect_download() as caught:
            page.locator(f"#{name}").click()
        file = tmp_path / f"found.{name}"
        caught.value.save_as(file)
        frame = geopandas.read_file(file)
        assert frame["id"].tolist() == ids(page) and frame.crs.equals("EPSG:4326")
        assert frame.total_bounds[0] > 6.8 and frame.total_bounds[3] < 51


def test_names_of_scenes_are_text_and_a_lost_scene_is_a_sentence(visit):
    page = visit(f"/?text=a+field&scene={'%3Cb+onclick%3Dalert%281%29%3E*'}")
    expect(page.locator("#hits .from").first).to_contain_text(ODD)
    assert page.locator("#hits b").count() == 0
    page = visit("/?text=a+field&scene=lost.tif")
    page.locator("#hits .open").first.click()
    expect(page.locator("#viewer-said")).to_contain_text("no longer there, or torn")


@pytest.mark.exhaustive
def test_no_hits_and_2000_words_are_sentences(visit):
    page = visit()
    ask(page, "word " * 2000)
    expect(page.locator("#said")).to_contain_text("was cut to")
    page.locator("#text").fill("another text")
    page.locator("#narrow").click()
    page.locator("#box").fill("1,1,2,2")
    page.locator("#box").press("Enter")
    expect(page).to_have_url(re.compile(r"text=another\+text&bbox=1"))
    expect(page.locator("#said")).to_contain_text("No tile passes the filters")
    expect(page.locator("#exports")).to_be_hidden()


def test_everything_is_reached_by_keyboard(visit):
    page = visit("/?text=a+field")
    page.locator("body").press("/")
    expect(page.locator("#text")).to_be_focused()
    page.locator("#hits .open").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    at = page.evaluate("[...document.querySelectorAll('#hits .open')].indexOf(document.activeElement)")
    assert at > 2
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#view").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("bbox="))
    nameless = page.locator("button:visible, input:visible, textarea:visible").evaluate_all(
        "all => all.filter(one => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length).map(one => one.id)"
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_results_or_the_map_and_nothing_is_cut_off(scheme, visit):
    page = visit("/?text=a+field", color_scheme=scheme, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#map")).not_to_be_visible()
    page.locator("#to-map").tap()
    expect(page.locator("#map")).to_be_visible()
    expect(page.locator("#hits")).not_to_be_visible()
    assert page.locator("#map").bounding_box()["height"] > 500
    page.locator("#to-list").tap()
    page.locator("#hits .open").first.tap()
    expect(page.locator("#viewer")).to_be_visible()
    assert page.locator("#scene-map").bounding_box()["height"] > 300
    ink, paper = page.locator("body").evaluate(
        "body => ['color', 'backgroundColor'].map(name => getComputedStyle(body)[name])"
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (light[0] < light[1]) == (scheme == "light")


@pytest.mark.exhaustive
def test_it_says_what_it_does_while_the_model_loads(archive, browser):
    import threading

    import lrsclip_jax.search
    from lrsclip_jax.search.page.app import app_of
    from lrsclip_jax.search.page.readiness import Readiness
    from lrsclip_jax.search.page.service import Service

    service, loaded = Service(lrsclip_jax.search.open(archive)), threading.Event()
    service.readiness = Readiness({"Loading the model": loaded.wait, "Preparing": service.index.warm}, lambda: None)
    with serving(app_of(service)) as address, contextlib.closing(browser.new_page()) as page:
        page.goto(f"{address}/?text=a+field")
        expect(page.locator("#said")).to_contain_text("Loading the model … (", timeout=20_000)
        loaded.set()
        expect(page.locator("#hits .score").first).to_be_visible(timeout=60_000)
