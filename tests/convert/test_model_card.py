"""Model cards: metadata that the Hub reads, our tables, and nothing of a path or of markup in a name."""

from __future__ import annotations

import json

import pytest
import tiny_clip
from documents import EVIL
from etils import epath
from huggingface_hub import ModelCard
from ml_collections import ConfigDict

from lrsclip_jax.convert.formats.model_card import ModelFacts, model_card
from lrsclip_jax.convert.model_facts import facts_of
from lrsclip_jax.run import checkpoint_reader

RECALLS = {
    f"{way}/R@{k}": float(value)
    for value, (way, k) in enumerate(((way, k) for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)), 10)
}
SCORES = {f"eval/rsitmd:test/long/{name}": value for name, value in {**RECALLS, "mean_recall": 12.5}.items()}


def card(facts=None, name="b16", **settings):
    about = {"name": name, "architecture": "CLIPModel", "source": "runs/b16", "facts": facts}
    return model_card(tiny_clip.model(), tiny_clip.PREPROCESSING, **about, **settings)


def test_the_hub_reads_licence_base_models_data_and_results():
    facts = ModelFacts(
        ("openai/clip-vit-base-patch16",),
        ("scenes:40:0", "rsicd:train", "my set"),
        SCORES | {"eval/rsitmd:test/zeroshot/accuracy": 50.0},
        "apache-2.0",
        "me/lrsclip",
    )
    text = card(facts)
    data = ModelCard(text).data
    assert (data.license, data.base_model, data.datasets) == (
        "apache-2.0",
        ["openai/clip-vit-base-patch16"],
        ["rsicd"],
    )
    assert (data.language, data.library_name, data.metrics) == ("en", "transformers", ["recall", "accuracy"])
    assert data.model_name == "lrsclip"
    found = {(each.task_type, each.dataset_config, each.metric_name): each.metric_value for each in data.eval_results}
    assert found["image-text-retrieval", "long", "text to image R@1"] == 10
    assert found["image-text-retrieval", "long", "mean recall"] == 12.5
    assert found["zero-shot-image-classification", None, "accuracy"] == 50 and len(found) == 8
    assert "| long | 10.00 | 11.00 | 12.00 | 13.00 | 14.00 | 15.00 | 12.50 |" in text
    assert 'name = "me/lrsclip"' in text and "trained on scenes:40:0, rsicd:train, my set." in text
    assert 'name = "hf-hub:me/lrsclip"' in card(facts, library="open_clip")


def test_a_card_says_that_a_native_model_sees_squares_here():
    said = "The model was trained on images of any shape; here they become squares of 32."
    assert said in card(ModelFacts(native=True)) and "any shape" not in card()


def test_a_card_without_facts_says_that_no_licence_is_stated():
    text = card()
    assert "# license: stated by whoever publishes this folder" in text and "## Evaluation" not in text
    data = ModelCard(text).data
    assert data.license is None and data.base_model is None and data.eval_results is None


def test_names_are_text_and_stay_in_their_line():
    evil = f"{EVIL}\n---\nlicense: mit\n| x"
    scores = {f"eval/{evil.replace('/', '')}/long/{name}": value for name, value in RECALLS.items()}
    text = card(ModelFacts((), (evil,), scores), evil)
    assert ModelCard(text).data.license is None
    assert text.count("\n---\n") == 1 and "<script>" not in text.split("\n---\n", 1)[1]
    assert json.dumps(ModelCard(text).data.to_dict())


def test_facts_of_a_run_reach_back_to_where_it_began(monkeypatch):
    began = {
        "runs/tuned": ("runs/first", "random", [("/data/rsitmd:train", 2.0), "scenes:40:0"]),
        "runs/first": ("hf:openai/clip@main", "hf:a/b/file.pt", ["/data/rsicd"]),
    }

    def metadata(folder):
        init, image_init, sources = began[str(folder.parent.parent)]
        return {"config": {"model": {"init": init, "image_init": image_init}, "data": {"sources": sources}}}

    def find(source):
        return epath.Path(source) / "checkpoints" / "7" if source in began else None

    monkeypatch.setattr(checkpoint_reader, "find", find)
    monkeypatch.setattr(checkpoint_reader, "read_metadata", metadata)
    assert facts_of("runs/tuned", "mit", "me/x") == ModelFacts(
        ("openai/clip", "a/b"), ("rsicd", "rsitmd:train", "scenes:40:0"), {}, "mit", "me/x"
    )
    assert facts_of("hf:openai/clip/file.pt@v1").base_models == ("openai/clip",)
    assert facts_of("ViT-B-16.pt") == ModelFacts()


def test_scores_are_those_of_the_checkpoint_that_is_exported(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints" / "20"
    rows = [{"step": 10, "eval/a/long/mean_recall": 1.0}, {"step": 20, "loss": 2.0, "eval/a/long/mean_recall": 3.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setattr(checkpoint_reader, "find", lambda source: epath.Path(folder))
    config = ConfigDict({"model": {"init": "random"}, "data": {"sources": ()}}).to_dict()
    monkeypatch.setattr(checkpoint_reader, "read_metadata", lambda folder: {"config": config})
    assert facts_of("run").scores == {"eval/a/long/mean_recall": 3.0}


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_every_library_has_its_own_example(library):
    text = card(library=library)
    assert f"import {library}" in text or f"from {library} import" in text
    assert f"library_name: {library}" in text
