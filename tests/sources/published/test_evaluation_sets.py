"""The named evaluation sets: images, texts and order as public evaluations take them, which are spelled out here."""

import json
import re

import pytest
from PIL import Image

from lrsclip_jax.embed.material import open_material
from lrsclip_jax.embed.naming import identity_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Fault, Keys, open_source
from lrsclip_jax.sources.published.evaluation_sets import EVALUATION_SETS
from lrsclip_jax.sources.published.long_text import rejoined

LONG = "A quay, 3.5 m high.\nTwo cranes stand on it. A ship lies there."


def pairs(spec, **options):
    """The (path of the image below its set, text) of each item, and the faults."""
    items, faults = [], []
    for found in open_source(spec, **options):
        (faults if isinstance(found, Fault) else items).append(found)
    return [(item.image, *item.long) for item in items], faults


def lotlip(text):
    """`split_caption` of LoTLIP's and FLAIR's loaders, and what they join again."""
    kept = []
    for part in re.split(r"\n|</s>|[.]", text):
        part = part.strip()
        if len(part) != 0:
            kept.append(part)
    return ". ".join(kept)


@pytest.mark.parametrize("text", [LONG, "", "...", "A. B.\n\nC</s>D", " one sentence "])
def test_texts_are_joined_as_lotlip_and_flair_join_them(text):
    assert rejoined(text) == lotlip(text)


def urban(folder, captions, images):
    (folder / "image").mkdir(parents=True)
    (folder / "caption").mkdir()
    for stem, text in captions.items():
        (folder / f"caption/{stem}.txt").write_text(text)
    for stem in images:
        Image.new("RGB", (40, 40), (stem, 90, 90)).save(folder / f"image/{stem}.jpg")


def test_urban1k_pairs_image_and_caption_by_name_and_takes_the_first_line(tmp_path):
    captions = {1: "A street.\nA second line.", 10: "A bus.", 2: "\nA damaged bus.\n"}
    urban(tmp_path / "Urban1k", captions, captions)
    found, faults = pairs(f"urban1k:{tmp_path}")
    folder = tmp_path / "Urban1k/image"
    assert found == [
        (folder / "1.jpg", "A street."),
        (folder / "2.jpg", "A damaged bus."),
        (folder / "10.jpg", "A bus."),
    ]
    assert not faults and pairs(f"urban1k:{tmp_path / 'Urban1k'}") == (found, [])


def test_urban1k_says_which_image_has_no_text_and_which_text_is_empty(tmp_path):
    urban(tmp_path, {1: "A street.", 3: " \n"}, [1, 2, 3])
    found, faults = pairs(f"urban1k:{tmp_path}")
    assert [text for _, text in found] == ["A street."]
    assert [(fault.where, fault.reason) for fault in faults] == [
        ("caption/3.txt", "not a single text in it"),
        ("image/2.jpg", "an image without a text in caption/"),
    ]


def docci(folder):
    (folder / "images").mkdir()
    splits = ["train", "test", "qual_test", "test"]
    rows = [
        {"example_id": f"{split}_{n}", "split": split, "image_file": f"{split}_{n}.jpg", "description": f" Text {n}. "}
        for n, split in enumerate(splits)
    ]
    (folder / "docci_descriptions.jsonlines").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_docci_is_its_split_test_in_the_order_of_the_file(tmp_path):
    rows = docci(tmp_path)
    expected = [
        (tmp_path / "images" / row["image_file"], row["description"].strip()) for row in rows if row["split"] == "test"
    ]
    assert pairs(f"docci:{tmp_path}") == (expected, [])
    assert pairs(f"docci:{tmp_path}/docci_descriptions.jsonlines") == (expected, [])
    source = open_source(f"docci:{tmp_path}")
    assert (source.name, source.split) == ("DOCCI", "test")
    (tmp_path / "elsewhere").mkdir()
    moved, _ = pairs(f"docci:{tmp_path}:train", image_root=tmp_path / "elsewhere")
    assert moved == [(tmp_path / "elsewhere/train_0.jpg", "Text 0.")]


def test_himos_growing_texts_end_with_the_longest(tmp_path):
    file = tmp_path / "himo_docci_data.json"
    rows = [{"img_path": "test_0.jpg", "caption": ["A street.", "A street. It is wet."]}, {"img_path": "test_1.jpg"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    found, (fault,) = pairs(f"himo-docci:{file}")
    assert found == [(tmp_path / "test_0.jpg", "A street. It is wet.")]
    assert fault.where == "himo_docci_data.json, line 2" and "a list of texts that grow" in fault.reason


def dci(folder):
    """Three images in the order of splits.json, which is not that of the files."""
    base = folder / "densely_captioned_images"
    splits = {"train": ["3-data.json", "1-data.json"], "test": ["2-data.json"]}
    for name in ("annotations", "complete", "photos"):
        (base / name).mkdir(parents=True)
    (base / "splits.json").write_text(json.dumps(splits))
    for n in (1, 2, 3):
        row = {"image": f"sa_{n}.jpg", "short_caption": f"Short {n}.", "extra_caption": LONG if n > 1 else ""}
        (base / f"annotations/{n}-data.json").write_text(json.dumps({**row, "mask_data": {}}))
        summaries = {"base": [f"Summary {n}.", "Another."]} if n > 1 else None
        (base / f"complete/{n}-data.json").write_text(json.dumps({**row, "summaries": summaries}))
    return base, splits


def test_dci_joins_both_captions_of_all_splits_as_lotlip_does(tmp_path):
    base, splits = dci(tmp_path)
    expected = []
    for names in splits.values():
        for name in names:
            row = json.loads((base / "annotations" / name).read_text())
            text = lotlip(f"{row['short_caption']}\n{row['extra_caption']}")
            expected.append((base / "photos" / row["image"], text))
    assert pairs(f"dci:{tmp_path}") == (expected, []) == pairs(f"dci:{base}")
    assert pairs(f"dci:{base}:test")[0] == expected[2:]
    with pytest.raises(InputError, match="no split 'tests', it has train, test, did you mean 'test'?"):
        open_source(f"dci:{base}:tests")


def test_summaries_of_dci_are_the_first_ones_of_whole_images(tmp_path):
    base, _ = dci(tmp_path)
    assert pairs(f"dci-summaries:{base}") == ([(base / "photos/sa_2.jpg", "Summary 2.")], [])
    found, (fault,) = pairs(f"dci-summaries:{base}:train")
    assert found == [(base / "photos/sa_3.jpg", "Summary 3.")]
    assert fault.where == "complete/1-data.json" and "no summaries" in fault.reason


def test_long_dci_is_tulips_list_whether_made_or_published(tmp_path):
    base, _ = dci(tmp_path)
    on_one_line = LONG.replace("\n", " ")
    made = pairs(f"long-dci:{base}")
    assert made == ([(base / "photos/sa_2.jpg", on_one_line), (base / "photos/sa_3.jpg", on_one_line)], [])
    published = tmp_path / "dci_long.csv"
    published.write_text(f'filepath\ttitle\nsa_2.jpg\t"{LONG}"\nsa_3.jpg\t"{LONG}"\n')
    assert pairs(f"long-dci:{published}", image_root=base) == made


@pytest.mark.parametrize("name", ["../annotations/1-data.json", "..", "/etc/passwd", "9-data.json"])
def test_a_name_in_splits_json_leads_nowhere_else(tmp_path, name):
    base, _ = dci(tmp_path)
    (base / "splits.json").write_text(json.dumps({"test": ["2-data.json", name]}))
    found, (fault,) = pairs(f"dci:{base}")
    assert len(found) == 1 and ("no name of a file" in fault.reason or "9-data.json" in fault.reason)


def test_iiw_is_three_parts_in_the_order_of_its_evaluation(tmp_path):
    rows = {
        "DCI_Test": {"IIW": LONG, "image": "sa_1.jpg"},
        "DOCCI_Test": {"IIW": "A white toilet.", "image": "test_00731", "DOCCI": "Another text."},
        "IIW-400": {"IIW": "A flower.", "image/key": "aar_test_04600"},
    }
    for part, row in rows.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "data.jsonl").write_text(json.dumps(row) + "\n")
    for folder in ("docci", "docci_aar", "dci"):
        (tmp_path / folder).mkdir()
    (tmp_path / "docci/train_00731.jpg").touch()
    expected = [
        (tmp_path / "docci/train_00731.jpg", "A white toilet"),
        (tmp_path / "docci_aar/aar_test_04600.jpg", "A flower"),
        (tmp_path / "dci/sa_1.jpg", lotlip(LONG)),
    ]
    assert pairs(f"iiw:{tmp_path}") == (expected, [])
    assert pairs(f"iiw:{tmp_path}:IIW_400")[0] == expected[1:2]
    assert pairs(f"iiw:{tmp_path}/DCI_Test/data.jsonl", image_root=tmp_path)[0] == expected[2:]


def test_sharegpt4v_is_the_first_rows_of_the_list(tmp_path):
    file = tmp_path / "share-captioner_coco_lcs_sam_1246k_1107.json"
    rows = [
        {
            "id": f"sa_{n}",
            "image": f"sam/images/sa_{n}.jpg",
            "conversations": [{"value": "?"}, {"value": f"{n} {LONG}"}],
        }
        for n in range(1003)
    ]
    file.write_text(json.dumps(rows))
    found, faults = pairs(f"sharegpt4v-1k:{tmp_path}")
    caption = [row["conversations"][1]["value"].replace("\n", " ") for row in rows[:1000]]
    assert found == [(tmp_path / row["image"], text) for row, text in zip(rows, caption, strict=False)]
    assert not faults
    more, _ = pairs(f"sharegpt4v-10k:{file}")
    assert len(more) == 1003 and more[1000][1] == lotlip(f"1000 {LONG}")


def test_flairs_annotations_name_their_images(tmp_path):
    file = tmp_path / "test_annotations.json"
    texts = [("docci/a.jpg", 0, "A toilet"), ("docci/a.jpg", 0, "The floor"), ("dci/b.jpg", 1, "A quay")]
    rows = [{"image_id": id, "image": image, "caption": text, "caption_id": 7} for image, id, text in texts]
    file.write_text(json.dumps({"annotations": rows}))
    found, faults = pairs(str(file), keys=Keys(long="caption"))
    assert found == [(tmp_path / "docci/a.jpg", "A toilet", "The floor"), (tmp_path / "dci/b.jpg", "A quay")]
    assert not faults


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("urban1k:{}/none", "urban1k:{}/none: no such file or folder"),
        ("urban1k:{}", "{}: no folder 'caption' in it: Urban1k has the folders image and caption"),
        ("docci:{}", "{}: no docci_descriptions.jsonlines in it"),
        ("dci:{}", "{}: no splits.json in it"),
        ("long-dci:{}", "{}: no annotations/*.json in it, nor is it dci_long.csv"),
        ("iiw:{}", "{}: none of DOCCI_Test/data.jsonl, IIW-400/data.jsonl, DCI_Test/data.jsonl is there"),
        ("sharegpt4v-1k:{}", "{}: no share-captioner_coco_lcs_sam_1246k_1107.json in it"),
    ],
)
def test_what_is_missing_is_said_at_once(tmp_path, spec, line):
    with pytest.raises(InputError) as error:
        open_source(spec.format(tmp_path))
    assert str(error.value) == line.format(tmp_path)


def test_a_wrong_split_and_a_key_are_refused(tmp_path):
    docci(tmp_path)
    with pytest.raises(InputError, match="no split 'tset', it has qual_test, test, train, did you mean 'test'"):
        list(open_source(f"docci:{tmp_path}:tset"))
    with pytest.raises(InputError, match="its keys are known: leave out --long-key"):
        open_source(f"docci:{tmp_path}", Keys(long="caption"))


def test_an_embedding_set_bears_the_name_that_the_papers_use(tmp_path):
    urban(tmp_path / "Urban1k", {1: "A street.", 2: "A bus."}, [1, 2])
    spec = f"urban1k:{tmp_path}"
    material = open_material(spec)
    assert identity_of(spec, material) == ("Urban1k", "")
    assert [row["id"] for row in material.images] == ["1.jpg", "2.jpg"]
    assert [(row["kind"], row["image"]) for row in material.texts] == [("long", "1.jpg"), ("long", "2.jpg")]
    assert material.read(1).size == (40, 40)


def test_every_set_has_a_title_of_its_own():
    titles = [known.title for known in EVALUATION_SETS.values()]
    assert len(set(titles)) == len(titles)
