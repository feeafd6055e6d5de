"""Without verl, or without a part of it, the plug-in says what to install."""

import importlib.util

import pytest

from masa.errors import UserError


@pytest.mark.skipif(importlib.util.find_spec("verl") is not None, reason="verl is installed")
def test_without_verl_the_plug_in_says_what_it_needs():
    with pytest.raises(UserError, match=r"needs the module 'verl'.*docs/verl.md"):
        importlib.import_module("masa.integrations.verl")
