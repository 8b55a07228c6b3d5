"""Secrets are taken out of what is kept or shown."""

import pytest

from eval.redaction import redacted


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("lrsclip serve archive --token=abcdef --port=8600", "lrsclip serve archive --token=… --port=8600"),
        ("lrsclip serve archive --token abcdef", "lrsclip serve archive --token …"),
        ("http://user:pass@host/x?api_key=abc&page=1", "http://…@host/x?api_key=…&page=1"),
        ("--image-key=picture", "--image-key=picture"),
    ],
)
def test_addresses_and_tokens_lose_their_secrets_and_nothing_else(text, kept):
    assert redacted(text) == kept


def test_the_value_of_a_variable_that_is_called_as_a_key_is_taken_out(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "s3cretvalue")
    assert redacted("401: s3cretvalue is no key") == "401: … is no key"
