"""transformers' ConfigTester on the three configurations."""

import unittest

from transformers_common_tests import ConfigTester

from vitaclip_hf import VitaClipConfig, VitaClipTextConfig, VitaClipVisionConfig


class ConfigTests:
    """One test for each of ConfigTester's own."""

    def test_common_properties(self):
        self.config_tester.create_and_test_config_common_properties()

    def test_to_json_string(self):
        self.config_tester.create_and_test_config_to_json_string()

    def test_to_json_file(self):
        self.config_tester.create_and_test_config_to_json_file()

    def test_save_and_load(self):
        self.config_tester.create_and_test_config_from_and_save_pretrained()

    def test_save_and_load_subfolder(self):
        self.config_tester.create_and_test_config_from_and_save_pretrained_subfolder()

    def test_save_and_load_composite(self):
        self.config_tester.create_and_test_config_from_and_save_pretrained_composite()

    def test_num_labels(self):
        self.config_tester.create_and_test_config_with_num_labels()

    def test_common_arguments(self):
        self.config_tester.check_config_arguments_init()

    def test_load_with_other_values(self):
        self.config_tester.create_and_test_config_from_pretrained_custom_kwargs()

    def test_without_arguments(self):
        self.config_tester.check_config_can_be_init_without_params()

    def test_all_are_here(self):
        checks = [name for name in vars(ConfigTester) if name.startswith(("create_and_test_", "check_"))]
        self.assertEqual(len(checks), len([name for name in vars(ConfigTests) if name.startswith("test_")]) - 1)


class VisionConfigTest(ConfigTests, unittest.TestCase):
    def setUp(self):
        fields = {"hidden_size": 48, "num_frames": 4, "num_global_prompts": 2, "use_local_prompts": False}
        self.config_tester = ConfigTester(self, VitaClipVisionConfig, has_text_modality=False, **fields)


class TextConfigTest(ConfigTests, unittest.TestCase):
    def setUp(self):
        fields = {"hidden_size": 32, "num_context_tokens": 4, "context_position": "middle"}
        self.config_tester = ConfigTester(self, VitaClipTextConfig, **fields)


class ModelConfigTest(ConfigTests, unittest.TestCase):
    def setUp(self):
        self.model_tester = self
        common = ["projection_dim", "logit_scale_init_value", "num_frames"]
        self.config_tester = ConfigTester(
            self, VitaClipConfig, has_text_modality=False, common_properties=common, projection_dim=16
        )

    def get_config(self):
        """A configuration whose every part differs from the defaults; ConfigTester asks for it."""
        return VitaClipConfig(
            text_config={"hidden_size": 32, "num_context_tokens": 4, "vocab_size": 99},
            vision_config={"hidden_size": 48, "num_frames": 4},
            projection_dim=16,
        )
