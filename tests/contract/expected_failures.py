"""The tests of transformers that Vita-CLIP does not pass, and why."""

from contextlib import nullcontext

import pytest


EXPECTED_FAILURES = {
    "VisionModelTest.test_model_weights_reload_no_missing_tied_weights": "missing prompts are an error here",
    "ModelWithTextsTest.test_model_weights_reload_no_missing_tied_weights": "missing prompts are an error here",
    "ModelWithClassesTest.test_model_weights_reload_no_missing_tied_weights": "missing prompts are an error here",
    "ClassifierTest.test_model_weights_reload_no_missing_tied_weights": "missing prompts are an error here",
    "ModelWithTextsTest.test_attention_outputs": "each tower has its own, as in CLIPModel",
    "ModelWithClassesTest.test_attention_outputs": "each tower has its own, as in CLIPModel",
    "ModelWithTextsTest.test_hidden_states_output": "each tower has its own, as in CLIPModel",
    "ModelWithClassesTest.test_hidden_states_output": "each tower has its own, as in CLIPModel",
    "ModelWithTextsTest.test_retain_grad_hidden_states_attentions": "each tower has its own, as in CLIPModel",
    "ModelWithClassesTest.test_retain_grad_hidden_states_attentions": "each tower has its own, as in CLIPModel",
    "ClassifierTest.test_can_load_ignoring_mismatched_shapes": "its classes are prompts, not a linear layer",
    "VideoProcessorTest.test_call_sample_frames": "`fps` is refused, and a short video repeats its last frame",
}


def with_expected_failures(test_class: type) -> type:
    """Marks the tests of a class that are in the table. One that passes nevertheless fails, so that its line goes."""
    # A failed subtest fails its test: pytest would count the test as passed.
    test_class.subTest = lambda self, *args, **kwargs: nullcontext()
    for test, reason in EXPECTED_FAILURES.items():
        class_name, name = test.split(".")
        if class_name == test_class.__name__:
            setattr(test_class, name, pytest.mark.xfail(reason=reason, strict=True)(getattr(test_class, name)))
    return test_class
