"""What the page's server answers: searches, files, pictures at the right places, and refusals in one sentence."""

import io
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform as project
from served_archive import ODD, RED, TILE


def picture(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def transform_of(archive, scene):
    with rasterio.open(archive.parent / "scenes" / scene) as raster:
        return raster.transform, raster.crs


@pytest.mark.slow
def test_a_search_is_a_feature_collection_best_first(client, service):
    found = client.get("/api/search", params={"text": "a harbour", "top": 7})
    assert found.headers["content-type"] == "application/geo+json"
    found = found.json()
    assert found["type"] == "FeatureCollection" and len(found["features"]) == 7 and found["verdict"]
    cosines = [feature["properties"]["cosine"] for feature in found["features"]]
    assert cosines == sorted(cosines, reverse=True)
    again = service.index.search(text="a harbour", top=7)
    assert [feature["id"] for feature in found["features"]] == [hit.id for hit in again]


def test_footprints_are_where_rasterio_has_them(client, archive):
    transform, crs = transform_of(archive, "harbour.tif")
    found = client.get("/api/search", params={"text": "a harbour", "scene": "harbour.tif"}).json()
    assert len(found["features"]) == 16
    for feature in found["features"]:
        said = feature["properties"]
        rows, columns = (said["row_start"], said["row_stop"]), (said["col_start"], said["col_stop"])
        corners = {(row, column) for row in rows for column in columns}
        ring = feature["geometry"]["coordinates"][0]
        x, y = project("EPSG:4326", crs, [lon for lon, _ in ring], [lat for _, lat in ring])
        back = [~transform * corner for corner in zip(x, y, strict=True)]
        for row, column in corners:
            assert min(math.hypot(c - column, r - row) for c, r in back) < 1e-3


def test_filters_hold_a_search_to_a_place_a_time_and_a_scene(client):
    def scenes(**asked):
        found = client.get("/api/search", params={"text": "a place", "top": 200} | asked).json()
        return {feature["properties"]["scene"] for feature in found["features"]}

    everything = scenes()
    assert {"harbour.tif", "deep.tif", "fiji.tif", ODD, "nowhere.tif", "photo.jpg"} <= everything
    assert scenes(bbox="-106,39,-104,41") == {"deep.tif"}
    assert scenes(within="-106,39;-104,39;-104,41;-106,41") == {"deep.tif"}
    assert scenes(bbox="179,-18,-179,-16") == {"fiji.tif"}
    assert scenes(within="179,-18;181,-18;181,-16;179,-16") == {"fiji.tif"}
    assert scenes(since="2024-01-01") == {"deep.tif"}
    assert scenes(since="2023-01-01", until="2023-12-31") == {"harbour.tif"}
    assert scenes(scene=ODD) == {ODD}
    nothing = client.get("/api/search", params={"text": "a place", "bbox": "1,1,2,2"}).json()
    assert nothing["features"] == [] and "No tile passes the filters" in nothing["verdict"]


def test_texts_images_and_examples_weigh_together_as_in_python(client, service):
    image = np.random.default_rng(3).integers(0, 255, (50, 40, 3), np.uint8)
    key = client.post("/api/images", content=png(image)).json()["image"]
    ids = [hit.id for hit in service.index.search(text="a field", top=3)]
    asked = {"text": ["a field", "a road"], "image": key, "not": "clouds", "like": ids[0], "unlike": ids[1]}
    found = client.get("/api/search", params=asked).json()["features"]
    expected = service.index.search(
        text=["a field", "a road"], image=Image.fromarray(image), negative="clouds", more=[ids[0]], less=[ids[1]]
    )
    assert [feature["id"] for feature in found] == [hit.id for hit in expected]
    assert [feature["properties"]["cosine"] for feature in found] == pytest.approx([hit.cosine for hit in expected])
    assert picture(client.get(f"/api/images/{key}")).shape == (50, 40, 3)
    assert client.get("/api/search", params={"like": ids[0]}).json()["features"][0]["id"] == ids[0]


@pytest.mark.parametrize("form", ["geojson", "gpkg"])
def test_exports_open_in_geopandas_at_the_right_places(form, client, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    asked = {"text": "a harbour", "top": 20, "bbox": "6,50,8,52"}
    answer = client.get(f"/api/export/{form}", params=asked)
    assert answer.status_code == 200 and f"found.{form}" in answer.headers["content-disposition"]
    (tmp_path / f"found.{form}").write_bytes(answer.content)
    frame = geopandas.read_file(tmp_path / f"found.{form}")
    features = client.get("/api/search", params=asked).json()["features"]
    assert frame.crs.equals("EPSG:4326") and frame["id"].tolist() == [feature["id"] for feature in features]
    wanted = geopandas.GeoDataFrame.from_features(features, crs=4326)
    assert np.abs(frame.bounds.to_numpy() - wanted.bounds.to_numpy()).max() < 1e-9


def test_csv_has_a_line_a_hit(client):
    lines = client.get("/api/export/csv", params={"text": "a harbour", "top": 5}).text.splitlines()
    assert len(lines) == 6 and lines[0].startswith("rank,id,scene")


def test_map_tiles_show_scenes_where_they_lie(client, archive):
    transform, crs = transform_of(archive, "harbour.tif")
    rows, columns = (RED[0] + RED[1]) / 2, (RED[2] + RED[3]) / 2
    (lon,), (lat,) = project(crs, "EPSG:4326", *([value] for value in transform * (columns, rows)))
    for zoom in (17, 19):  # laid out of thumbnails, and read by rio-tiler
        x = (lon + 180) / 360 * 2**zoom
        y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom
        tile = picture(client.get(f"/api/tiles/{zoom}/{int(x)}/{int(y)}.png"))
        assert tile.shape == (256, 256, 4)
        row, column = int(y % 1 * 256), int(x % 1 * 256)
        r, g, b, a = tile[row, column].astype(int)
        assert a == 255 and r > 190 and g < 80 and b < 80, (zoom, tile[row, column])
        metres = 156_543.03 * math.cos(math.radians(lat)) / 2**zoom
        reds = np.argwhere((tile[..., 0] > 190) & (tile[..., 1] < 90))
        assert abs(len(reds) - (32 / metres) ** 2) < 0.35 * (32 / metres) ** 2 or zoom == 19
    assert picture(client.get("/api/tiles/3/0/0.png")).shape == (1, 1, 4)


def test_map_tiles_leave_gaps_clear_and_cross_the_date_line(client):
    lon, lat, zoom = -105.0 + 5e-4, 40.0 - 5e-4, 16
    x = (lon + 180) / 360 * 2**zoom
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom
    tile = picture(client.get(f"/api/tiles/{zoom}/{int(x)}/{int(y)}.png"))
    assert tile[int(y % 1 * 256), int(x % 1 * 256), 3] == 0 and tile[..., 3].max() == 255
    y = int((1 - math.asinh(math.tan(math.radians(-17.001))) / math.pi) / 2 * 2**12)
    for x in (0, 2**12 - 1):
        assert picture(client.get(f"/api/tiles/12/{x}/{y}.png"))[..., 3].any(), x


def test_pieces_of_a_scene_are_its_own_pixels(client, archive):
    with rasterio.open(archive.parent / "scenes" / "harbour.tif") as raster:
        whole = raster.read().transpose(1, 2, 0)
    asked = {"scene": "harbour.tif", "row": 0, "column": 0}
    piece = picture(client.get("/api/scene/piece", params={**asked, "halvings": 0}))
    assert piece.shape == (256, 256, 3) and np.abs(piece.astype(int) - whole).mean() < 6  # JPEG
    r0, r1, c0, c1 = RED
    assert (piece[r0 + 4 : r1 - 4, c0 + 4 : c1 - 4, 0] > 200).all()
    half = picture(client.get("/api/scene/piece", params={**asked, "halvings": 1}))
    assert (half[128:] == 0).mean() > 0.9
    assert (half[r0 // 2 + 2 : r1 // 2 - 2, c0 // 2 + 2 : c1 // 2 - 2, 0] > 170).all()


def test_thumbnails_and_facts(client, service):
    hit = service.index.search(text="a field", top=1)[0]
    assert max(picture(client.get("/api/thumbnail", params={"id": hit.id})).shape[:2]) == TILE
    facts = client.get("/api/archive").json()
    assert facts["tiles"] == len(service.index) and facts["scenes"] == 7 and ODD in facts["names"]
    assert (facts["first"], facts["last"]) == ("2023-07-14", "2024-02-01")
    sample = client.get("/api/sample", params={"top": 5}).json()["features"]
    assert len({feature["id"] for feature in sample}) == 5 and sample[0]["properties"].keys() >= {"scene", "row_start"}


def test_a_heat_map_covers_the_tile_and_its_surroundings(client, service):
    hit = next(hit for hit in service.index.search(text="a field", scenes="harbour.tif") if hit.window[0] == 64)
    answer = client.get("/api/heat", params={"id": hit.id, "text": "a field"})
    r0, r1, c0, c1 = map(int, answer.headers["x-window"].split(","))
    assert r0 <= hit.window[0] and hit.window[1] <= r1 and (r1 - r0, c1 - c0) == (3 * TILE, 3 * TILE)
    assert picture(answer).shape == (384, 384, 4) and 0 <= float(answer.headers["x-hottest"]) <= 1
    assert client.get("/api/heat", params={"id": hit.id, "like": hit.id}).status_code == 200


def test_a_lost_scene_is_a_plain_sentence_and_is_still_found(client):
    asked = {"scene": "lost.tif"}
    found = client.get("/api/search", params={"text": "a field", **asked}).json()["features"]
    assert client.get("/api/thumbnail", params={"id": found[0]["id"]}).status_code == 200
    piece = client.get("/api/scene/piece", params={**asked, "halvings": 0, "row": 0, "column": 0})
    heat = client.get("/api/heat", params={"id": found[0]["id"], "text": "a field"})
    for answer in (piece, heat):
        assert answer.status_code == 410
        assert answer.json()["error"].startswith("The scene 'lost.tif' is no longer there, or torn")


def test_a_text_of_2000_words_is_cut_and_says_so(client):
    found = client.get("/api/search", params={"text": "storage tanks along a river " * 400})
    assert found.status_code == 200 and "was cut to" in found.json()["notes"][0]


def test_twenty_clients_at_once_are_all_answered(client):
    def ask(number):
        return client.get("/api/search", params={"text": f"a field number {number % 5}", "top": 10})

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, range(60)))
    assert [answer.status_code for answer in answers] == [200] * 60
    for number, answer in enumerate(answers):
        assert answer.json()["features"] == answers[number % 5].json()["features"]


def test_the_api_is_described_without_internet(client):
    openapi = client.get("/openapi.json").json()
    assert {"/api/search", "/api/export/{form}", "/api/tiles/{z}/{x}/{y}.png", "/health"} <= openapi["paths"].keys()
    page = client.get("/docs").text
    assert "/api/search" in page and "may be given several times" in page
    assert "<script" not in page and not re.search(r"https?://", page)
    for name in re.findall(r'(?:href|src)="(/static/[^"]+)"', client.get("/").text):
        assert client.get(name).status_code == 200, name


LONG = "x" * 3000
MALFORMED = [
    ("GET", "/api/search", {}),
    ("GET", "/api/search", {"text": ""}),
    ("GET", "/api/search", {"text": "  "}),
    ("GET", "/api/search", {"text": "a" * 20_001}),
    ("GET", "/api/search", {"text": ["a"] * 17}),
    ("GET", "/api/search", {"txt": "a"}),
    ("GET", "/api/search", {"text": "a", "top": "0"}),
    ("GET", "/api/search", {"text": "a", "top": "501"}),
    ("GET", "/api/search", {"text": "a", "top": "ten"}),
    ("GET", "/api/search", {"text": "a", "top": "1e2"}),
    ("GET", "/api/search", {"text": "a", "bbox": "1,2,3"}),
    ("GET", "/api/search", {"text": "a", "bbox": "1,2,3,north"}),
    ("GET", "/api/search", {"text": "a", "bbox": "nan,0,1,1"}),
    ("GET", "/api/search", {"text": "a", "bbox": "0,50,1,40"}),
    ("GET", "/api/search", {"text": "a", "bbox": "0,0,1,1" * 50}),
    ("GET", "/api/search", {"text": "a", "bbox": ""}),
    ("GET", "/api/search", {"text": "a", "within": "1,1;2,2"}),
    ("GET", "/api/search", {"text": "a", "within": "1,1;2,2;x,y"}),
    ("GET", "/api/search", {"text": "a", "within": "1,1;1,1;1,1"}),
    ("GET", "/api/search", {"text": "a", "within": "1,1;2,2;inf,3"}),
    ("GET", "/api/search", {"text": "a", "within": "0,0;1,0;1,95"}),
    ("GET", "/api/search", {"text": "a", "within": "/etc/passwd"}),
    ("GET", "/api/search", {"text": "a", "since": "yesterday"}),
    ("GET", "/api/search", {"text": "a", "since": "2024-13-01"}),
    ("GET", "/api/search", {"text": "a", "since": "2024-05-02", "until": "2024-05-01"}),
    ("GET", "/api/search", {"text": "a", "scene": "../../etc/passwd"}),
    ("GET", "/api/search", {"text": "a", "scene": LONG}),
    ("GET", "/api/search", {"image": "0" * 24}),
    ("GET", "/api/search", {"image": "../x"}),
    ("GET", "/api/search", {"like": "no such tile"}),
    ("GET", "/api/search", {"like": "7"}),
    ("GET", "/api/search", {"unlike": "harbour.tif"}),
    ("POST", "/api/search", {"text": "a"}),
    ("GET", "/api/export/shp", {"text": "a"}),
    ("GET", "/api/export/csv", {}),
    ("GET", "/api/images/../../etc/passwd", {}),
    ("GET", "/api/images/nothex", {}),
    ("GET", "/api/thumbnail", {}),
    ("GET", "/api/thumbnail", {"id": "nothing"}),
    ("GET", "/api/tiles/1/2/0.png", {}),
    ("GET", "/api/tiles/99/0/0.png", {}),
    ("GET", "/api/tiles/1/-1/0.png", {}),
    ("GET", "/api/tiles/1/0/0.png", {"size": "100000"}),
    ("GET", "/api/tiles/a/b/c.png", {}),
    ("GET", "/api/scene", {"scene": "/etc/passwd"}),
    ("GET", "/api/scene/piece", {"scene": "harbour.tif", "halvings": 0, "row": 9, "column": 0}),
    ("GET", "/api/scene/piece", {"scene": "harbour.tif", "halvings": -1, "row": 0, "column": 0}),
    ("GET", "/api/scene/piece", {"scene": "harbour.tif", "halvings": 0, "row": 10**30, "column": 0}),
    ("GET", "/api/heat", {"id": "nothing", "text": "a"}),
    ("GET", "/api/heat", {"text": "a"}),
    ("GET", "/api/nothing", {}),
    ("DELETE", "/api/archive", {}),
    ("GET", "/static/../app.py", {}),
    ("GET", "/static/%2e%2e/app.py", {}),
]


@pytest.mark.parametrize(("method", "path", "asked"), MALFORMED)
def test_a_malformed_request_is_refused_in_one_sentence(method, path, asked, client, archive):
    check_refusal(client.request(method, path, params=asked), archive)


def check_refusal(answer, archive):
    assert 400 <= answer.status_code < 500, answer.text
    said = json.loads(answer.text)
    assert said.keys() == {"error"} and said["error"][0].isupper() and said["error"].endswith((".", "?"))
    assert "\n" not in said["error"] and len(said["error"]) < 400
    assert (
        not re.search(r"Traceback|Error\b|pydantic|File \"", said["error"]) and str(archive.parent) not in answer.text
    )


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"no image at all", 415),
        (png(np.zeros((40, 40, 3), np.uint8))[:60], 415),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 415),
        (b"II*\0" + bytes(64), 415),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(64), 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"x" * ((32 << 20) + 1), 413),
    ],
    ids=["empty", "text", "torn", "no header", "no TIFF", "PostScript", "SVG", "33 MiB"],
)
def test_an_upload_that_is_no_image_is_refused(content, status, client, archive):
    answer = client.post("/api/images", content=content)
    assert answer.status_code == status, answer.text
    check_refusal(answer, archive)


def test_an_upload_of_too_many_pixels_is_refused_before_it_is_decoded(client, archive):
    bomb = png(np.zeros((9000, 9000), np.uint8))
    assert len(bomb) < 1 << 20
    answer = client.post("/api/images", content=bomb)
    assert answer.status_code == 413 and "81,000,000 pixels" in answer.json()["error"]
    check_refusal(answer, archive)


def test_uploads_make_room_and_say_so(client, service):
    from lrsclip_jax.search.page.dropped import Dropped, Shelf
    from lrsclip_jax.search.page.sentences import Refusal

    shelf = Shelf(kept=2)
    for key in "abc":
        shelf.put(Dropped(key, np.zeros((1, 1, 3), np.uint8), b""))
    assert shelf.get("c").key == "c"
    with pytest.raises(Refusal, match="no longer has the image"):
        shelf.get("a")
