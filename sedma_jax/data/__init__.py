"""Read the data sets of the paper, and data that installed packages contain.

    index = sedma_jax.data.index_imagenet(folder, "val")
    images = sedma_jax.data.stream_imagenet(index, shorter_side=256, crop=224)
    batches = sedma_jax.data.image_batches(images, 64)
    sedma_jax.data.evaluate_classifier(classify, batches)

Nothing is downloaded, and only one image or batch is held at a time.
"""

from .._dir import later_names
from .._extras import require

require("data", "PIL", "pycocotools", "skimage", "sklearn", "tokenizers")
__dir__ = later_names(globals())

from ._bundled import (
    PHOTOGRAPHS as PHOTOGRAPHS,
    Digits as Digits,
    digits as digits,
    photograph as photograph,
)
from ._coco import (
    CocoImage as CocoImage,
    CocoIndex as CocoIndex,
    index_coco as index_coco,
    stream_coco as stream_coco,
)
from ._encoder import EncoderLayer as EncoderLayer, SentenceEncoder as SentenceEncoder
from ._evaluation import (
    Accuracy as Accuracy,
    AnswerScores as AnswerScores,
    evaluate_classifier as evaluate_classifier,
    evaluate_detector as evaluate_detector,
    evaluate_reader as evaluate_reader,
)
from ._imagenet import (
    ImageBatch as ImageBatch,
    ImageNetIndex as ImageNetIndex,
    LabelledImage as LabelledImage,
    image_batches as image_batches,
    index_imagenet as index_imagenet,
    stream_imagenet as stream_imagenet,
)
from ._metrics import (
    AveragePrecision as AveragePrecision,
    Detections as Detections,
    average_precision as average_precision,
    exact_match as exact_match,
    f1 as f1,
    in_top as in_top,
    normalise_answer as normalise_answer,
)
from ._minilm import (
    embed_sentences as embed_sentences,
    load_sentence_encoder as load_sentence_encoder,
)
from ._squad import Question as Question, stream_squad as stream_squad
