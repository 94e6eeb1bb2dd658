"""transformers' ModelTesterMixin on the video tower, the whole model and the classifier."""

import unittest

import torch
from expected_failures import with_expected_failures
from torch import nn
from transformers.testing_utils import torch_device
from transformers_common_tests import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask

from vitaclip_hf import VitaClipConfig, VitaClipForVideoClassification, VitaClipModel, VitaClipVisionModel


BATCH_SIZE = 5
NUM_FRAMES = 3
IMAGE_SIZE = 16
PATCH_SIZE = 8
NUM_GLOBAL_PROMPTS = 2
NUM_LABELS = 3
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
VISION = LAYERS | {"image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE, "num_frames": NUM_FRAMES}
VISION["num_global_prompts"] = NUM_GLOBAL_PROMPTS
TEXT = LAYERS | {"vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98}
TEXT |= {"max_position_embeddings": 20, "num_context_tokens": 4}


def tiny_config() -> VitaClipConfig:
    return VitaClipConfig(
        vision_config=VISION,
        text_config=TEXT,
        projection_dim=24,
        # The scale is 1: trained scales multiply the rounding of bfloat16, which has the test's tolerance already.
        logit_scale_init_value=0.0,
        id2label={index: f"class {index}" for index in range(NUM_LABELS)},
    )


class Tester:
    """What every tester has. ModelTesterMixin reads these names."""

    is_training = True
    batch_size = BATCH_SIZE
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    # A frame's class token and patches attend to themselves and to the summary, local and global prompts.
    seq_length = 1 + (IMAGE_SIZE // PATCH_SIZE) ** 2
    key_length = seq_length + 1 + NUM_FRAMES + NUM_GLOBAL_PROMPTS

    def get_config(self):
        return tiny_config()

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), self.inputs()

    def inputs(self) -> dict[str, torch.Tensor]:
        return {"pixel_values_videos": floats_tensor([BATCH_SIZE, NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE])}


class TextTester(Tester):
    seq_length = 7

    def inputs(self):
        size = [BATCH_SIZE, self.seq_length]
        return {"input_ids": ids_tensor(size, TEXT["vocab_size"]), "attention_mask": random_attention_mask(size)}


class FrameTester(Tester):
    def inputs(self):
        return {"pixel_values": floats_tensor([BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE])}


class VisionTester(Tester):
    def get_config(self):
        return tiny_config().vision_config


class ModelTester(Tester):
    """For a model of both towers.

    Args:
        with_texts (`bool`): compare the videos with texts; with the model's own classes otherwise.
    """

    text_config = TEXT
    vision_config = VISION

    def __init__(self, with_texts: bool):
        self.with_texts = with_texts
        self.text_model_tester = TextTester()
        self.vision_model_tester = FrameTester()
        self.video_model_tester = Tester()

    def inputs(self):
        return super().inputs() | (self.text_model_tester.inputs() if self.with_texts else {})


@with_expected_failures
class VisionModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (VitaClipVisionModel,)
    test_resize_embeddings = False  # it has no token embeddings
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = VisionTester()

    def test_model_get_set_embeddings(self):
        """Overridden as in transformers' tests of vision models: the embedding is that of the patches."""
        model = VitaClipVisionModel(self.model_tester.get_config())
        self.assertIsInstance(model.get_input_embeddings(), nn.Conv2d)
        self.assertIsNone(model.get_output_embeddings())


@with_expected_failures
class ModelWithTextsTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (VitaClipModel,)
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True
    test_all_params_have_gradient = False  # class prompts take no part in a comparison with texts

    def setUp(self):
        self.model_tester = ModelTester(with_texts=True)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels:
            # The i-th video shows the i-th text.
            inputs["labels"] = torch.arange(BATCH_SIZE, device=torch_device)
        return inputs


class WithClasses(ModelTesterMixin):
    """A model of both towers with its own classes."""

    _is_composite = True
    test_resize_embeddings = False  # the test needs texts; ModelWithTextsTest has them
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = ModelTester(with_texts=False)


@with_expected_failures
class ModelWithClassesTest(WithClasses, unittest.TestCase):
    all_model_classes = (VitaClipModel,)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels:
            inputs["labels"] = torch.zeros(BATCH_SIZE, dtype=torch.long, device=torch_device)
        return inputs


@with_expected_failures
class ClassifierTest(WithClasses, unittest.TestCase):
    all_model_classes = (VitaClipForVideoClassification,)
