"""A recipe is a user's Python: what is wrong with it is one line, with its file and line."""

from __future__ import annotations

import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError

START = "from lrsclip_jax.config import defaults\ndef get_config():\n    c = defaults()\n"
RECIPES = {
    "raises": ("def get_config():\n    raise ValueError('no\\nway')\n", "line 2: ValueError: no way"),
    "syntax": ("x = 1\ndef get_config(:\n", "line 2: SyntaxError"),
    "null": ("x = '\0'\n", ""),
    "module": ("\nimport no_such_module_at_all\n", "line 2: ModuleNotFoundError: No module named 'no_such_module"),
    "nothing": (
        "\ndef get_config():\n    pass\n",
        "line 2: get_config() returns None, it must end with `return config`",
    ),
    "dict": ("def get_config(): return {'a': 1}\n", "line 1: get_config() returns {'a': 1}"),
    "absent": ("config = 5\n", "defines no function get_config()"),
    "number": ("get_config = 5\n", "defines no function get_config()"),
    "exit": ("import sys\nsys.exit(0)\n", "line 2: the recipe ends the program"),
    "deep": ("def get_config(): return get_config()\n", "RecursionError"),
    "unknown": (
        START + "    c.batchsize = 3\n    return c\n",
        "line 4: the config has no key 'batchsize' here, did you mean 'batch_size'?",
    ),
    "value": (
        START + "    c.batch_size = 'many'\n    return c\n",
        "batch_size='many': expected a whole number from 1",
    ),
    "group": (
        START + "    c.loss = 5\n    return c\n",
        "loss is a group of keys",
    ),
    "bare": (
        "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'seed': 1})\n",
        "lacks batch_size",
    ),
    "mute": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\ndef get_config():\n    raise Mute\n",
        "line 4: Mute",
    ),
    "other": (
        "from lrsclip_jax.config import recipe\ndef get_config(): return recipe('vitb61')\n",
        "other.py: vitb61: no recipe",
    ),
    "read": (
        START + "    return c.loss.long_wieght\n",
        "line 4: the config has no key 'long_wieght' here, did you mean 'long_weight'?",
    ),
    "far": (START + "    c.qqqq = 3\n    return c\n", "line 4: the config has no key 'qqqq' here"),
    "latin": ("name = 'caf\xe9'\n", "SyntaxError"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_with_a_slip_is_one_line_with_file_and_line(name, tmp_path):
    source, message = RECIPES[name]
    path = tmp_path / f"{name}.py"
    path.write_bytes(source.encode("latin-1"))
    with pytest.raises(InputError) as error:
        configs.load(str(path))
    said = str(error.value)
    assert said.startswith(f"--config={path}: ") and message in said and "\n" not in said and len(said) < 700


def test_a_recipe_that_another_one_imports_is_named_where_it_does_not_parse(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_part.py").write_text("x = 1\n\nfor\n")
    (tmp_path / "whole.py").write_text("import broken_part\n")
    with pytest.raises(InputError, match=r"broken_part.py, line 3: SyntaxError"):
        configs.load(str(tmp_path / "whole.py"))


def test_a_recipe_may_set_what_the_command_line_may(tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(
        "from lrsclip_jax.config import defaults\ndef get_config():\n    c = defaults()\n    c.epochs = 3\n"
        "    c.loss.long_weight = ((0, 0.2), (10, 0.8))\n    c.data.crop_scale = [0.5, 1]\n    return c\n"
    )
    config = configs.load(str(path))
    assert config.epochs == 3.0 and isinstance(config.epochs, float)
    assert config.loss.long_weight == ((0, 0.2), (10, 0.8))


@pytest.mark.parametrize("name", ["group", "bare"])
def test_an_override_of_a_group_that_a_recipe_has_not_is_one_line(name, tmp_path):
    path = tmp_path / f"{name}.py"
    path.write_text(RECIPES[name][0])
    with pytest.raises(InputError, match="^--config.loss.chunk: the recipe has no group loss: start from"):
        configs.load(str(path), ["loss.chunk=3"])
