"""The examples in the docstrings give what they say."""

import doctest
import importlib

import pytest


MODULES = ("data.augmentation", "data.rand_augment", "data.class_names")
MODULES += ("model.configuration_vita_clip", "model.modeling_vita_clip")


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"vitaclip_hf.{module}"))
    assert results.attempted > 0 and results.failed == 0
