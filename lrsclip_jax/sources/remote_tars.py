"""WebDataset tars at addresses: https, http, gs and s3. Each is copied to this machine when its turn comes."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lrsclip_jax.data.fetching import cached, path_in, shown, sweep
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.listing import expanded_braces, split_of_folder
from lrsclip_jax.sources.source import Reading, Source
from lrsclip_jax.sources.tars import Shard, read_shards

_AHEAD = 2  # copies that are made while another is read


def read_remote(pattern: str, reading: Reading) -> Source:
    """Opens "https://host/train-{00000..00099}.tar", with braces or without.

    A lost connection continues where it broke. One of several that can't be had is a fault, the same in every reading.
    Classes have no names, and paths in the tars lead nowhere.
    """
    addresses = expanded_braces(pattern)
    for address in addresses:
        if path_in(address).suffix.lower() != ".tar":
            raise InputError(
                f"{shown(address)}: only WebDataset tars are read from addresses, as https://HOST/x-{{000..099}}.tar"
            )
    if len(set(map(shown, addresses))) < len(addresses):
        raise InputError(f"{shown(pattern)}: its addresses differ only behind '?': their copies would have one name")
    copies = Copies([functools.partial(cached, address) for address in addresses])
    shards = [
        Shard(
            shown(address),
            functools.partial(copies.get, number),
            split_of_folder(path_in(address).parent.name),
            shown(address),
        )
        for number, address in enumerate(addresses)
    ]
    name = re.sub(r"[-_.]?\{[^{}]*\}", "", path_in(pattern).stem) or "tars"
    return read_shards(shards, name, Path("/"), reading)


class Copies:
    """Files that threads make a few ahead of their turn, each once; what failed has failed for good."""

    def __init__(self, makers: Sequence[Callable[[], Path]]):
        sweep()
        self._makers = makers
        self._made: dict[int, _Making] = {}

    def get(self, number: int) -> Path:
        """Returns a file, as soon as it is made; raises what its making raised."""
        for each in range(number, min(number + 1 + _AHEAD, len(self._makers))):
            if each not in self._made:
                self._made[each] = _Making(self._makers[each])
                self._made[each].start()
        return self._made[number].result()


class _Making(threading.Thread):
    """The making of a file. The process may end before it."""

    def __init__(self, make: Callable[[], Path]):
        super().__init__(daemon=True)
        self._make = make
        self._path: Path | None = None
        self._failure: Exception | None = None

    def run(self) -> None:
        try:
            self._path = self._make()
        except Exception as error:
            self._failure = error

    def result(self) -> Path:
        self.join()
        if self._failure:
            raise self._failure
        assert self._path
        return self._path
