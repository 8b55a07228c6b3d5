"""Publishes an exported folder on the Hugging Face Hub. The folder stays as it is, also where the Hub refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eval.redaction import redacted
from lrsclip_jax.errors import InputError


def check_repository(repository: str, private: bool) -> None:
    """Asks the Hub whether a repository can be written, before there is anything to write. Nothing is made there.

    Args:
      repository: "owner/name".
      private: whether it is to be private.

    Raises:
      InputError: that is no name of a repository, there is no token or it is refused, the repository belongs to
        others, it is there and public although it is to be private, or the Hub is out of reach.
    """
    from huggingface_hub import HfApi  # takes a while to import
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    owner, slash, _ = repository.partition("/")
    try:
        validate_repo_id(repository)
    except HFValidationError:
        slash = ""
    if not slash:
        raise InputError(f"--push={repository}: no name of a repository on the Hugging Face Hub, which is owner/name")
    with _answering(repository):
        user = HfApi().whoami()
        if owner not in (user["name"], *(group["name"] for group in user.get("orgs", ()))):
            raise InputError(f"--push={repository}: {owner} is not you ({user['name']}) nor a group that you are in")
        try:
            found = HfApi().model_info(repository)
        except RepositoryNotFoundError:
            return
        if private and not found.private:
            raise InputError(f"--push={repository} is public already: leave --private out, or change it on its page")


def push(folder: Path, repository: str, private: bool) -> str:
    """Uploads a folder as one commit to a repository, which is made where it is not there, and returns its address.

    Raises:
      InputError: as of `check_repository`, or the connection was lost; the folder is as before.
    """
    from huggingface_hub import HfApi

    with _answering(repository, f"; {folder} is whole: `hf upload {repository} {folder}` sends it"):
        address = HfApi().create_repo(repository, private=private or None, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder, commit_message="Export of lrsclip_jax")
    return str(address)


@contextmanager
def _answering(repository: str, then: str = "") -> Iterator[None]:
    """Turns what the Hub refuses in the block into one line, which ends with `then`."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except InputError:
        raise
    except LocalTokenNotFoundError:
        raise InputError(f"--push={repository} needs a token: `hf auth login`, or set HF_TOKEN{then}") from None
    except HfHubHTTPError as error:
        reasons = {401: "it does not know the token", 403: "the token may not write there"}
        reason = reasons.get(error.response.status_code) or _line(error)
        raise InputError(f"--push={repository}: the Hugging Face Hub refuses: {reason}{then}") from None
    except Exception as error:  # a network fails in the types of many libraries
        raise InputError(f"--push={repository}: the Hugging Face Hub is out of reach: {_line(error)}{then}") from None


def _line(error: Exception) -> str:
    return redacted((str(error).splitlines() or [type(error).__name__])[0])
