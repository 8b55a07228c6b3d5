"""Models of the Hugging Face Hub as local files: `hf:owner/name`."""

from __future__ import annotations

import re
from pathlib import Path

from eval.file_names import named
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import weights_name

# Files next to the weights that describe them.
_DESCRIPTIONS = (
    "config.json",
    "adapter_config.json",
    "open_clip_config.json",
    "*processor_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
)
_SOURCE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@\s]+))?(?:@(?P<revision>[^@\s]+))?")


def local(source: str) -> Path:
    """Returns the path of a source of weights, after fetching one of the Hugging Face Hub.

    Args:
      source: a path, or "hf:owner/name", "hf:owner/name@revision" (a branch, a tag, a commit), or, of a repository with
        several models, "hf:owner/name/file@revision". Fetched are its weights in one form, safetensors before others,
        its configs and its tokenizer, into the Hub's own cache; from there they come where the Hub is out of reach
        (HF_HUB_OFFLINE=1, no network).

    Returns:
      The folder of the repository's snapshot, the file where one is named, or the path as it is.

    Raises:
      InputError: there is no such path, repository, revision or file, it takes a login, several files may be the
        weights, the Hub is out of reach and the cache has nothing, or fetching failed.
    """
    if source.startswith("hf:"):
        found = _SOURCE.fullmatch(source)
        if not found:
            raise InputError(f"{source} is not of the form hf:owner/name, hf:owner/name/file, or either with @revision")
        return _fetched(**found.groupdict())
    source = named(source)
    path = Path(source).expanduser() if source.startswith("~/") else Path(source)
    if not path.exists():
        raise InputError(f"there is no file or folder {source}")
    return path


def _fetched(repo: str, file: str | None, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download  # takes a while to import
    from huggingface_hub.errors import HFValidationError, RevisionNotFoundError

    try:
        names = [file.rfilename for file in HfApi().model_info(repo, revision=revision).siblings or ()]
    except HFValidationError:
        raise InputError(f"{repo} can't be the name of a repository on the Hugging Face Hub") from None
    except RevisionNotFoundError:
        raise InputError(f"hf:{repo} has no revision {revision}") from None
    except Exception as reason:  # a network fails in the types of many libraries
        return _cached(repo, file, revision, reason)
    if file and file not in names:
        raise InputError(f"hf:{repo} has no file {file}")
    weights = file or weights_name((name for name in names if "/" not in name), f"hf:{repo}")
    shards = weights.replace(".safetensors.index.json", "-*.safetensors")
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[*_DESCRIPTIONS, weights, shards]))
    except Exception as error:
        raise InputError(f"hf:{repo} came only in part, try again: {_line(error)}") from None
    return folder / file if file else folder


def _cached(repo: str, file: str | None, revision: str | None, reason: Exception) -> Path:
    """The cached file, where the Hub could not be asked for `reason`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        # No patterns: the snapshot need not be complete, and what it lacks shows when it is opened.
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[], local_files_only=True))
        if not file or (folder / file).is_file():
            return folder / file if file else folder
    except LocalEntryNotFoundError:
        pass
    if isinstance(reason, GatedRepoError):
        raise InputError(f"hf:{repo} wants its terms accepted on its page, and then `hf auth login` here")
    if isinstance(reason, RepositoryNotFoundError):
        raise InputError(f"there is no hf:{repo}, or it is private: check the name, or `hf auth login`")
    what = f"hf:{repo}" + (f"/{file}" if file else "") + (f"@{revision}" if revision else "")
    raise InputError(f"{what} is not in the local cache, and the Hugging Face Hub is out of reach: {_line(reason)}")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
