"""The packages of the wheel; all else is in pyproject.toml, which can't find packages and rename a folder at once."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lrsclip_jax*", "eval*"]), "lrsclip_jax.recipes", "lrsclip_jax.recipes.studies"],
    package_dir={"lrsclip_jax.recipes": "configs", "lrsclip_jax.recipes.studies": "configs/studies"},
)
