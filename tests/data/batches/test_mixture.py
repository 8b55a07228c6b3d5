import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import mixture
from lrsclip_jax.data.prepared.records import RecordWriter, token_ids
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer
from lrsclip_jax.errors import InputError


def test_sources_are_opened_as_the_config_says():
    config = configs.defaults()
    config.data.sources = ("scenes:6", ("scenes:4:1", 2.0))
    drawn = mixture.open_sources(config)
    assert [(len(records), weight) for records, weight in drawn] == [(6, 1.0), (4, 2.0)]
    config.data.sampling = "pairs"
    paired = mixture.open_sources(config)
    assert [(len(records), weight) for records, weight in paired] == [(30, 1.0), (20, 2.0)]
    assert {each.long[0] for each in paired[0][0]} == {
        text for each in map(drawn[0][0].__getitem__, range(6)) for text in (*each.long, *each.short)
    }


def test_a_set_without_records_is_named(tmp_path):
    with RecordWriter(tmp_path):
        pass
    write_metadata(tmp_path, [])
    config = configs.defaults()
    config.data.sources = ("scenes:6", str(tmp_path))
    with pytest.raises(InputError, match=f"data.sources: {tmp_path} holds no records"):
        mixture.open_sources(config)


def test_texts_of_another_tokenizer_are_tokenised_again_and_a_note_says_so():
    config = configs.defaults()
    config.data.sources = ("scenes:8", ("scenes:8:1", 2.0))
    sources = mixture.open_sources(config)
    assert mixture.retokenised(config, sources, clip_tokenizer()) == []
    assert mixture.retokenised(config, sources, bert_tokenizer()) == [
        f"note: {name} has no token ids of the tokenizer 'bert': its texts are tokenised as they are read"
        for name in ("scenes:8", "scenes:8:1")
    ]
    first = sources[0][0][0]
    assert token_ids(first, bert_tokenizer())["long"] == bert_tokenizer().encode(first.long)


def test_a_weight_has_to_be_positive():
    assert mixture.weighted(("a", ("b", 2))) == [("a", 1.0), ("b", 2.0)]
    with pytest.raises(InputError, match="data.sources: the weight of a is 0.0, it must be positive"):
        mixture.weighted((("a", 0.0),))
