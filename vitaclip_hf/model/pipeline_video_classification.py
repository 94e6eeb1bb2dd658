"""transformers' `video-classification` pipeline, able to batch."""

from typing import Any

from transformers.pipelines.video_classification import VideoClassificationPipeline


class BatchedVideoClassificationPipeline(VideoClassificationPipeline):
    """The stock pipeline, unchanged but for `batch_size > 1`.

    The stock one refuses to batch a model that has a video processor but no image processor, for want of something to
    ask for a padding value (transformers 5.23, `Pipeline.get_iterator`); here it asks the video processor.
    """

    image_processor: Any

    def get_iterator(self, *args, **kwargs):
        image_processor = self.image_processor
        self.image_processor = image_processor or self.video_processor
        try:
            return super().get_iterator(*args, **kwargs)
        finally:
            self.image_processor = image_processor
