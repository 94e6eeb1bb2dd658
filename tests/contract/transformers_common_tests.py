"""transformers' common tests, as `fetch_transformers_tests.py` has left them; the importing module is skipped without.

The sdist lacks four modules that they import. What stands in for them is here.
"""

import sys
from types import ModuleType

import pytest
import transformers
from fetch_transformers_tests import tests_folder


FOLDER = tests_folder()
if not FOLDER.exists():
    pytest.skip(
        f"The tests of transformers {transformers.__version__} have not been fetched (no network?): "
        "run python tests/contract/fetch_transformers_tests.py",
        allow_module_level=True,
    )


def _stand_in(name: str, **contents) -> None:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module


sys.path.insert(0, str(FOLDER))
for package in ("exporters", "generation", "utils"):
    _stand_in(f"transformers_tests.{package}")
# Export is tested in tests/model; Vita-CLIP generates no text.
_stand_in("transformers_tests.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
_stand_in("transformers_tests.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
# Fields of every configuration, with values that are not their defaults.
FIELDS = {
    "architectures": ["SomeModel"], "chunk_size_feed_forward": 5, "dtype": "float16", "id2label": {0: "label"},
    "label2id": {"label": 0}, "output_attentions": True, "output_hidden_states": True, "return_dict": False,
    "problem_type": "regression",
}  # fmt: skip
_stand_in("transformers_tests.utils.test_configuration_utils", config_common_kwargs=FIELDS)
# Sample files of the Hub, which no test here may load.
_stand_in("fetch_hub_objects_for_ci", url_to_local_path=lambda url: url)

from transformers_tests import test_modeling_common  # noqa: E402
from transformers_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_tests.test_modeling_common import (  # noqa: E402
    ModelTesterMixin,
    floats_tensor,
    ids_tensor,
    random_attention_mask,
)
from transformers_tests.test_processing_common import ProcessorTesterMixin  # noqa: E402
from transformers_tests.test_video_processing_common import (  # noqa: E402
    VideoProcessingTestMixin,
    prepare_video_inputs,
)


# What transformers' own lists of models would say: the tower has no loss, the classifier takes labels of videos.
test_modeling_common.MODEL_MAPPING_NAMES = {
    **test_modeling_common.MODEL_MAPPING_NAMES,
    "vita_clip_vision_model": "VitaClipVisionModel",
}
test_modeling_common.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES = {
    **test_modeling_common.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    "vita_clip": "VitaClipForVideoClassification",
}


__all__ = ["ConfigTester", "ModelTesterMixin", "ProcessorTesterMixin", "VideoProcessingTestMixin"]
__all__ += ["floats_tensor", "ids_tensor", "prepare_video_inputs", "random_attention_mask"]
