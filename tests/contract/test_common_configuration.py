"""transformers' ConfigTester on the three configurations."""

import unittest

from transformers_common_tests import ConfigTester

from vitaclip_hf import VitaClipConfig, VitaClipTextConfig, VitaClipVisionConfig


class ConfigTests:
    """One test for each of ConfigTester's own checks."""


for check in [name for name in vars(ConfigTester) if name.startswith(("create_and_test_", "check_"))]:
    setattr(ConfigTests, f"test_{check}", lambda self, check=check: getattr(self.config_tester, check)())


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
