"""A bar for many questions: rate, tokens, cost, and the time left where the number of questions is known."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tqdm import tqdm

from lrsclip_jax.corpus.generators.request import Outcome
from lrsclip_jax.corpus.generators.server import Server


class Progress:
    """The bar and what it has counted, as a context manager. Tokens and cost are those of this run."""

    def __init__(self, server: Server, total: int | None):
        self._server = server
        self._counts: Counter[str] = Counter()
        self._bar = tqdm(total=total, desc=server.model, unit=" requests", leave=False, disable=None)

    def shown(self, outcome: Outcome) -> Outcome:
        """Counts an outcome, and returns it."""
        new = outcome.answers[len(outcome.answers) - outcome.asked :]
        self._counts["tokens in"] += sum(answer.tokens_in for answer in new)
        self._counts["tokens out"] += sum(answer.tokens_out for answer in new)
        self._counts["without text"] += outcome.text is None
        self._bar.set_postfix_str(", ".join(self._postfix()), refresh=False)
        self._bar.update()
        return outcome

    def _postfix(self) -> list[str]:
        counted = [f"{tqdm.format_sizeof(count)} {name}" for name, count in self._counts.items() if count]
        cost = self._server.cost(self._counts["tokens in"], self._counts["tokens out"])
        return counted if cost is None else [*counted, f"cost {cost:.2f}"]

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._bar.close()
