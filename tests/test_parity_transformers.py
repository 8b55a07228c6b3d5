"""Our towers beside transformers' torch CLIPModel, with its random weights copied across."""

import jax
import numpy as np
import pytest

from lrsclip_jax.convert.huggingface import clip_tree
from lrsclip_jax.models import zoo

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
no_init_weights = pytest.importorskip("transformers.initialization").no_init_weights

START, END = 49406, 49407


def theirs(model):
    """A CLIPModel of the same shape, every parameter random, norms and biases too."""

    def tower_config(tower):
        return {
            "hidden_size": tower.width,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.heads,
            "intermediate_size": 4 * tower.width,
            "hidden_act": tower.activation,
            "layer_norm_eps": tower.norm_eps,
        }

    config = transformers.CLIPConfig(
        vision_config=tower_config(model.image) | {"image_size": model.image.size, "patch_size": model.image.patch},
        text_config=tower_config(model.text)
        | {
            "vocab_size": model.text.vocab_size,
            "eos_token_id": END,
            "max_position_embeddings": model.text.context_length,
        },
        projection_dim=model.image.embed_dim,
    )
    torch.manual_seed(0)
    with no_init_weights():  # every value is drawn below
        reference = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.normal_(mean, parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return reference


@pytest.mark.parametrize(
    ("name", "activation", "context_length", "norm_eps"),
    [
        ("tiny", "quick_gelu", 77, 1e-5),
        ("tiny", "quick_gelu", 248, 1e-2),
        ("tiny", "gelu", 77, 1e-2),
        ("tiny", "gelu", 248, 1e-5),
        ("vitb32", "quick_gelu", 77, 1e-5),
        ("vitb32", "gelu", 248, 1e-5),
    ],
)
def test_embeddings_equal_transformers(name, activation, context_length, norm_eps):
    both = {"activation": activation, "norm_eps": norm_eps}
    model = zoo.create(name, image=both, text=both | {"context_length": context_length})
    reference = theirs(model)
    weights = {key: value.numpy() for key, value in reference.state_dict().items()}
    params = clip_tree(weights, model.image.heads, model.text.heads)

    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, model.image.size, model.image.size, 3)).astype(np.float32)
    ids = np.zeros((4, context_length), np.int32)
    for row, end in zip(ids, (1, 20, context_length // 2, context_length - 1), strict=True):
        row[: end + 1] = [START, *rng.integers(1, START, end - 1), END]
    ids[1, 21:] = END  # Hugging Face's padding
    with torch.no_grad():
        image_rows = reference.get_image_features(torch.from_numpy(images).permute(0, 3, 1, 2)).pooler_output
        text_rows = reference.get_text_features(torch.from_numpy(ids)).pooler_output

    ours, (our_texts,), logit_scale = jax.jit(model.apply)({"params": params}, images, ids)
    for found, expected in ((ours, image_rows), (our_texts, text_rows)):
        expected = torch.nn.functional.normalize(expected, dim=-1)
        assert np.abs(np.diff(expected, axis=0)).max() > 0.01  # the rows differ: a constant would not pass
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert logit_scale == reference.logit_scale.item()
