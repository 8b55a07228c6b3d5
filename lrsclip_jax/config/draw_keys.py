"""The keys of texts that are drawn by their sentences, the same for long and short texts."""

from __future__ import annotations

from lrsclip_jax.config.allowed import FRACTION, SENTENCES, TOKENS
from lrsclip_jax.config.values import Key, OrNone, Span, Whole, either


def draw_keys(group: str, texts: str, others: str) -> tuple[Key, ...]:
    """How texts are drawn by their sentences at every step, see lrsclip_jax/data/batches/sentence_draws.py."""
    return (
        Key(f"{group}.share", 1.0, FRACTION, f"of {texts}: how often their sentences are drawn; {others}"),
        Key(f"{group}.drop_first", 0.0, FRACTION, f"of {texts}: how often the first sentence, the summary, goes"),
        Key(f"{group}.drop", 0.0, FRACTION, f"of {texts}: how often each sentence that is left goes; one stays"),
        Key(
            f"{group}.sample",
            None,
            OrNone(either(SENTENCES, Span(SENTENCES, "the fewest and the most", "(1, 3)"))),
            f"of {texts}: how many of the sentences left are kept at most; None: all",
        ),
        Key(f"{group}.consecutive", 0.0, FRACTION, f"of {texts}: how often the sampled sentences follow each other"),
        Key(f"{group}.shuffle", 0.0, FRACTION, f"of {texts}: how often the sentences kept are shuffled"),
        Key(
            f"{group}.shift",
            0,
            Whole(0, TOKENS),
            f"of {texts}: most rows of the position table by which all tokens but the first are moved",
        ),
    )
