"""COCO and ImageNet, as small folders in their published layouts."""

import io
import json
import os
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sedma_jax import data


def gradient(height, width):
    """An image whose red says the column and whose green says the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def bomb(width, height):
    """The header of a PNG of a size that its data do not have."""
    content = bytearray(png(gradient(4, 4)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


# -- COCO


ANNOTATIONS = {
    "info": {"year": 2017},
    "images": [
        {"id": 9, "file_name": "000000000009.jpg", "height": 40, "width": 60},
        {"id": 5, "file_name": "000000000005.jpg", "height": 30, "width": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 18, "bbox": [10, 4, 20, 8], "area": 100.5,
         "iscrowd": 0, "segmentation": [[10, 4, 30, 4, 30, 12]]},
        {"id": 2, "image_id": 5, "category_id": 1, "bbox": [0, 0, 5.5, 6], "area": 33,
         "iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [30, 20]}},
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 3], "area": 6.0,
         "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}  # fmt: skip


@pytest.fixture
def coco(tmp_path):
    """A folder of two images; call it with changed annotations."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    for image in ANNOTATIONS["images"]:
        pixels = png(gradient(image["height"], image["width"]))
        (tmp_path / "val2017" / image["file_name"]).write_bytes(pixels)

    def write(content=ANNOTATIONS):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "annotations/instances_val2017.json").write_text(text)
        return tmp_path

    return write


def test_coco_images_come_with_their_boxes(coco):
    index = data.index_coco(coco())
    assert index.category_names == {1: "person", 18: "dog"}
    five, nine = data.stream_coco(index)
    assert (five.image_id, nine.image_id) == (5, 9)
    np.testing.assert_array_equal(nine.image, gradient(40, 60))
    np.testing.assert_array_equal(nine.boxes, [[10, 4, 20, 8], [0, 0, 2, 3]])
    np.testing.assert_array_equal(nine.areas, [100.5, 6])
    np.testing.assert_array_equal(nine.categories, [18, 1])
    assert five.crowds.tolist() == [True] and nine.crowds.tolist() == [False, False]
    np.testing.assert_array_equal(five.boxes, [[0, 0, 5.5, 6]])


def test_coco_boxes_scale_with_the_image(coco):
    (nine,) = data.stream_coco(data.index_coco(coco()), size=(20, 120), order=[1])
    assert nine.image.shape == (20, 120, 3) and nine.scale == (0.5, 2.0)
    np.testing.assert_array_equal(nine.boxes, [[20, 2, 40, 4], [0, 0, 4, 1.5]])
    np.testing.assert_array_equal(nine.areas, [100.5, 6])
    # Bilinear: the red of a column is where it came from, c/2 - 1/4, off the edges.
    np.testing.assert_allclose(
        nine.image[5, 4:116, 0], np.arange(4, 116) / 2 - 0.25, atol=0.5
    )


def test_coco_decodes_only_what_is_asked_for(coco):
    folder = coco()
    (folder / "val2017/000000000009.jpg").unlink()
    stream = data.stream_coco(data.index_coco(folder))
    assert next(stream).image_id == 5
    with pytest.raises(
        ValueError, match=r"000000000009.jpg' needs a file that it can open"
    ):
        next(stream)


def changed(part, row, **values):
    content = json.loads(json.dumps(ANNOTATIONS))
    content[part][row] |= values
    return content


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "intact JSON file"),
        ("[" * 100_000, "intact JSON file"),
        ("[]", "`images` of the file. Got no object"),
        ({"images": []}, "a list as `categories` of the file. Got None"),
        (changed("images", 0, file_name="../secret.jpg"), "plain file names"),
        (changed("images", 0, file_name="/etc/passwd"), "plain file names"),
        (changed("images", 0, file_name="a\0b"), "plain file names"),
        (changed("images", 0, file_name=".."), "plain file names"),
        (changed("images", 0, height=0), "one pixel or more"),
        (changed("images", 0, id=5), "a number of its own"),
        (changed("images", 0, id=2**64), "64 bits"),
        (changed("images", 0, id=True), "a whole number as `id`"),
        (changed("annotations", 0, bbox=[1, 2, 3]), "four finite numbers"),
        (changed("annotations", 0, bbox=[1, 2, 3, float("nan")]), "four finite numbers"),
        (changed("annotations", 0, bbox=[1, 2, 3, 10**400]), "four finite numbers"),
        (changed("annotations", 0, bbox=[1, 2, -3, 4]), "not negative"),
        (changed("annotations", 0, area="x"), "four finite numbers"),
        (changed("annotations", 0, image_id=7), "a box of image 7, which is not listed"),
        (changed("annotations", 0, category_id=7), "listed categories. Got 7"),
    ],
)
def test_coco_refuses_what_is_not_in_its_format(coco, content, words):
    with pytest.raises(ValueError) as raised:
        data.index_coco(coco(content))
    message = str(raised.value)
    assert words in message and "instances_val2017.json' needs" in message
    assert "\n" not in message and len(message) < 600


def test_coco_refuses_other_sizes_than_stated(coco):
    folder = coco(changed("images", 1, height=31))
    with pytest.raises(ValueError, match=r"the 20 x 31 pixels .* Got 20 x 30"):
        next(data.stream_coco(data.index_coco(folder)))


def test_coco_refuses_splits_that_lead_elsewhere(coco):
    with pytest.raises(ValueError, match="plain file names"):
        data.index_coco(coco(), "../val2017")


# -- ImageNet


WNIDS = "n01440764", "n01443537", "n02084071", "n15075141"


@pytest.fixture
def imagenet(tmp_path):
    for place, wnid in enumerate(WNIDS[:2]):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        for i in range(3):
            path = tmp_path / "train" / wnid / f"{wnid}_{i}.JPEG"
            Image.fromarray(gradient(48 + place, 64)).save(path, "JPEG")
    (tmp_path / "train" / "notes.txt").write_text("not a class")
    return tmp_path


@pytest.fixture
def flat(tmp_path):
    """`val` as its archive has it, beside a development kit with four classes."""
    (tmp_path / "val").mkdir()
    for i in range(1, 6):
        path = tmp_path / "val" / f"ILSVRC2012_val_{i:08}.JPEG"
        Image.fromarray(gradient(10 + i, 30)).save(path, "JPEG")
    kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    # As in the kit, numbers of classes do not follow the order of WordNet, and classes
    # with subclasses come after those that images have.
    rows = [(1, WNIDS[2], 0), (2, WNIDS[0], 0), (3, WNIDS[3], 0), (4, "n00001740", 2)]
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    synsets = np.array([(float(i), w, float(c)) for i, w, c in rows], kinds)
    savemat(kit / "meta.mat", {"synsets": synsets.reshape(-1, 1)}, do_compression=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n2\n1\n")
    return tmp_path


def test_imagenet_by_class(imagenet):
    index = data.index_imagenet(imagenet, "train")
    assert index.wnids == WNIDS[:2]
    assert index.labels.tolist() == [0, 0, 0, 1, 1, 1]
    records = list(data.stream_imagenet(index, order=[4, 0]))
    assert [r.label for r in records] == [1, 0]
    assert [r.image.shape for r in records] == [(49, 64, 3), (48, 64, 3)]


def test_imagenet_flat_with_development_kit(flat):
    index = data.index_imagenet(flat, "val")
    assert index.wnids == (WNIDS[0], WNIDS[2], WNIDS[3])
    assert index.labels.tolist() == [2, 1, 0, 0, 1]
    heights = [record.image.shape[0] for record in data.stream_imagenet(index)]
    assert heights == [11, 12, 13, 14, 15]


def test_imagenet_scales_the_shorter_side_and_crops_the_middle(tmp_path):
    (tmp_path / "val" / WNIDS[0]).mkdir(parents=True)
    (tmp_path / "val" / WNIDS[0] / "a.JPEG").write_bytes(png(gradient(100, 200)))
    index = data.index_imagenet(tmp_path)
    (record,) = data.stream_imagenet(index, crop=20)
    np.testing.assert_array_equal(record.image, gradient(100, 200)[40:60, 90:110])
    (record,) = data.stream_imagenet(index, shorter_side=50)
    assert record.image.shape == (50, 100, 3)
    (record,) = data.stream_imagenet(index, shorter_side=50, crop=10)
    # Halved: the middle of new pixel c is at 2 c + 1/2 of the old.
    np.testing.assert_allclose(record.image[5, :, 0], 2 * np.arange(45, 55) + 0.5, atol=1)
    with pytest.raises(ValueError, match=r"a.JPEG' needs sides of 300 pixels .* 200 x 100"):
        next(data.stream_imagenet(index, crop=300))
    with pytest.raises(ValueError, match="at least one pixel"):
        next(data.stream_imagenet(index, crop=0))


def test_image_batches(imagenet):
    index = data.index_imagenet(imagenet, "train")
    sizes = [
        (batch.images.shape, batch.labels.tolist())
        for batch in data.image_batches(data.stream_imagenet(index, crop=8), 4)
    ]
    assert sizes == [((4, 8, 8, 3), [0, 0, 0, 1]), ((2, 8, 8, 3), [1, 1])]
    with pytest.raises(ValueError, match="images of one size"):
        list(data.image_batches(data.stream_imagenet(index), 4))
    with pytest.raises(ValueError, match="size >= 1"):
        next(data.image_batches([], 0))


def test_imagenet_refuses_what_does_not_fit_together(flat):
    kit = flat / "ILSVRC2012_devkit_t12" / "data"
    truth = kit / "ILSVRC2012_validation_ground_truth.txt"
    for text, words in (
        ("1\n2\n", "one line for each of the 5 images. Got 2"),
        ("1\n2\n4\n1\n1\n", "numbers of classes that `meta.mat` lists. Got '4'"),
        ("1\n2\n-1\n1\n1\n", "numbers of classes that `meta.mat` lists. Got '-1'"),
    ):
        truth.write_text(text)
        with pytest.raises(ValueError, match=words):
            data.index_imagenet(flat)
    (kit / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(ValueError, match="intact MATLAB file"):
        data.index_imagenet(flat)
    (kit / "meta.mat").unlink()
    with pytest.raises(ValueError, match=r"Unpack `ILSVRC2012_devkit_t12.tar.gz` there"):
        data.index_imagenet(flat)


def test_imagenet_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="needs the folder `train`"):
        data.index_imagenet(tmp_path, "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"images ending in .JPEG"):
        data.index_imagenet(tmp_path, "train")


# -- what both decode


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "intact JPEG or PNG file"),
        (b"GIF89a" + bytes(100), "parse error (its first bytes are of neither)"),
        (png(gradient(40, 40))[:-60], "intact JPEG or PNG file"),
        (bomb(9000, 9000), "at most 67,108,864 pixels. Got 9,000 x 9,000"),
        (bomb(2**30, 2**30), "at most 67,108,864 pixels"),
    ],
    ids=["empty", "gif", "cut", "large", "bomb"],
)
def test_images_that_are_damaged_or_too_large_are_refused(tmp_path, content, words):
    (tmp_path / "val" / WNIDS[0]).mkdir(parents=True)
    (tmp_path / "val" / WNIDS[0] / "a.JPEG").write_bytes(content)
    with pytest.raises(ValueError) as raised:
        next(data.stream_imagenet(data.index_imagenet(tmp_path), crop=4))
    assert words in str(raised.value) and "a.JPEG' needs" in str(raised.value)


def test_scaling_a_thin_image_stays_within_the_limit(tmp_path):
    (tmp_path / "val" / WNIDS[0]).mkdir(parents=True)
    (tmp_path / "val" / WNIDS[0] / "a.JPEG").write_bytes(png(gradient(1, 250)))
    with pytest.raises(ValueError, match=r"67,108,864 pixels. Got 250,000 x 1,000"):
        next(data.stream_imagenet(data.index_imagenet(tmp_path), shorter_side=1000))


def test_a_pipe_is_no_image(tmp_path):
    (tmp_path / "val" / WNIDS[0]).mkdir(parents=True)
    os.mkfifo(tmp_path / "val" / WNIDS[0] / "a.JPEG")
    with pytest.raises(ValueError, match="a regular file"):
        next(data.stream_imagenet(data.index_imagenet(tmp_path)))
