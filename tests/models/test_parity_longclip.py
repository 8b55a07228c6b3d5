"""Long-CLIP as github.com/creative-graphic-design/longclip-transformers saves it, and a twin of its two tables."""

import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.families import huggingface
from lrsclip_jax.pytorch.read import read

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TABLE = "text_model.text_model.embeddings.position_embedding"
TOWER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


class TwoTables(torch.nn.Module):
    """Long-CLIP's positions: the table below 20, another one from there on."""

    def __init__(self, table):
        super().__init__()
        self.position_embedding = table
        self.position_embedding_res = torch.nn.Parameter(torch.randn(248, 32))

    @property
    def weight(self):
        return self.position_embedding.weight

    def forward(self, positions):
        first = (positions < 20)[..., None]
        return self.position_embedding(positions) * first + self.position_embedding_res[positions] * ~first


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of a LongCLIPModel, whose towers are modules in modules, and its twin."""
    folder = tmp_path_factory.mktemp("longclip")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        vision_config=TOWER | {"image_size": 32, "patch_size": 16},
        text_config=TOWER | {"max_position_embeddings": 248},
        projection_dim=16,
    )
    model = transformers.CLIPModel(config).eval()
    embeddings = model.text_model.embeddings
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    twice = {
        f"{key.split('.')[0]}.{key}" if "_model." in key else key: value.numpy()
        for key, value in model.state_dict().items()
    }
    embeddings.position_embedding = TwoTables(embeddings.position_embedding)
    twice[f"{TABLE}_res"] = embeddings.position_embedding.position_embedding_res.detach().numpy()
    save_file({key: np.ascontiguousarray(value) for key, value in twice.items()}, folder / "model.safetensors")
    config.model_type = "longclip"
    config.to_json_file(folder / "config.json")
    return folder, model


def test_long_clip_in_transformers_layout(saved):
    folder, twin = saved
    found = read(str(folder))
    assert found.family == huggingface.LONG_CLIP and found.text["context_length"] == 248
    tower = zoo.create("custom", image=found.image, text=found.text).text
    ids = np.random.default_rng(0).integers(1, 49000, (2, 248)).astype(np.int32)
    ids[:, -1] = 49407
    with torch.no_grad():
        expected = twin.get_text_features(torch.from_numpy(ids).long()).pooler_output
    rows = jax.jit(lambda params, ids: tower.apply({"params": params}, ids))(found.params["text"], ids)
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01
    np.testing.assert_allclose(rows, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{TABLE}.weight"), "lacks text_model.embeddings.position_embedding.weight"),
        (lambda t: t.update({f"{TABLE}_res": np.ones((77, 32))}), r"\[248, 32\]"),
        (lambda t: t[f"{TABLE}.weight"].fill(np.nan), "position_embedding.weight holds NaN"),
        (lambda t: t.update({"text_filip_projection.weight": np.ones(3)}), "is an FG-CLIP"),
    ],
)
def test_what_is_not_a_long_clip_is_one_line(saved, tmp_path, change, message):
    tensors = load_file(saved[0] / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(saved[0] / "config.json", tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        read(str(tmp_path))
    assert "\n" not in str(caught.value)
