import pytest

from lrsclip_jax import heldout
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError


def test_the_metric_of_the_best_checkpoint_must_be_a_score():
    held_out = [heldout.load("scenes:6:1", clip_tokenizer())]
    for metric in (
        None,
        "eval/scenes:6:1/long/mean_recall",
        "eval/scenes:6:1/short/image_to_text/R@5",
        "eval/scenes:6:1/long, first 20 tokens/text_to_image/R@1",
    ):
        heldout.check_best(metric, held_out, truncations=(20,))
    with pytest.raises(InputError, match=r"is no score of this run, did you mean 'eval/scenes:6:1/long/mean_recall'\?"):
        heldout.check_best("eval/scenes:6:1/long/mean_recal", held_out, ())
    with pytest.raises(InputError, match="is no score of this run: eval.sources is empty"):
        heldout.check_best("eval/scenes:6:1/long/mean_recall", [], ())
