"""transformers' VideoProcessingTestMixin and ProcessorTesterMixin on the video processor and the processor."""

import unittest

from expected_failures import with_expected_failures
from tiny_models import openai_tokenizer
from transformers_common_tests import ProcessorTesterMixin, VideoProcessingTestMixin, prepare_video_inputs

from vitaclip_hf import VitaClipProcessor, VitaClipVideoProcessor


class VideoProcessorTester:
    """Videos of random sizes. VideoProcessingTestMixin reads these names."""

    batch_size = 5
    num_frames = 8
    num_channels = 3

    def expected_output_video_shape(self, videos):
        return self.num_frames, 3, 18, 18

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        return prepare_video_inputs(
            self.batch_size, self.num_frames, self.num_channels, 30, 80, equal_resolution, return_tensors
        )


@with_expected_failures
class VideoProcessorTest(VideoProcessingTestMixin, unittest.TestCase):
    test_cast_dtype = True
    fast_video_processing_class = VitaClipVideoProcessor
    # The sizes are those that the mixin's own expectations name.
    video_processor_dict = {
        "do_resize": True, "size": {"shortest_edge": 20}, "do_center_crop": True, "do_normalize": True,
        "crop_size": {"height": 18, "width": 18}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip

    def setUp(self):
        super().setUp()
        self.video_processor_tester = VideoProcessorTester()


@with_expected_failures
class ProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = VitaClipProcessor

    @classmethod
    def _setup_video_processor(cls):
        return VitaClipVideoProcessor()

    @classmethod
    def _setup_tokenizer(cls):
        return openai_tokenizer()
