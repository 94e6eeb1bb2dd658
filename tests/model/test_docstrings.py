"""The examples in the docstrings give what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["data.augmentation", "data.class_names", "model.configuration_vita_clip", "model.modeling_vita_clip"]
)
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"vitaclip_hf.{module}"))
    assert results.attempted > 0 and results.failed == 0
