"""The packages of the wheel, and its page; pyproject.toml has all else.

pyproject.toml can't find packages and rename a folder at once. On the page of a package index links lead to the
repository, once [project.urls] names it.
"""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
RECIPES = {"lrsclip_jax.recipes": "configs", "lrsclip_jax.recipes.studies": "configs/studies"}


def page() -> str:
    """Returns the README with links and pictures that work outside the repository."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"].get("Repository")
    if repository is None:
        return text
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\g<1>{repository}/raw/main/", text)
    return re.sub(r"(?<!!)(\[[^]]*\]\()(?!https?:|#)", rf"\g<1>{repository}/blob/main/", text)


if __name__ == "__main__":
    setup(
        long_description=page(),
        long_description_content_type="text/markdown",
        packages=[*find_packages(include=["lrsclip_jax*", "eval*"]), *RECIPES],
        package_dir=RECIPES,
    )
