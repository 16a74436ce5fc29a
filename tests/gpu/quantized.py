"""Quantised copies, by the command that a plan has for them, and what is left of the model.

usage: quantized.py FOLDER

- bnb: the demo's model in 4 bits, which answers a question as the model itself does.
- fp8: a small Llama with random weights, as blocks of 128 do not divide the demo's 576. Its copy,
  read back as bfloat16, must be near the weights.

The models take the place of an export; nothing is trained. Needs ms-swift and bitsandbytes, and
neither Megatron nor Transformer Engine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    FineGrainedFP8Config,
    LlamaConfig,
    LlamaForCausalLM,
)

from pyswiftops.client import Client
from pyswiftops.demo.run import DemoFiles, DemoOptions, prepare
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

QUESTION = "What is the capital of France?"
NEAR = (
    0.05  # of a weight matrix: e4m3 has three bits of mantissa, so that a weight is 6 % off at most
)


def bytes_of(folder: Path) -> int:
    """Bytes of all weights in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def small_llama(source: Path, target: Path) -> None:
    """A Llama whose matrices blocks of 128 divide, with the demo's tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def answer(folder: Path) -> str:
    """What a model says, greedily."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, device_map="cuda")
    messages = [{"role": "user", "content": QUESTION}]
    given = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    ).to("cuda")
    made = model.generate(**given, max_new_tokens=20, do_sample=False)
    return str(tokenizer.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True))


def distance(model: Path, copy: Path) -> tuple[float, int]:
    """How far a copy's projections are from the model's, relative, at most; how many there are."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).state_dict()
    read = FineGrainedFP8Config(dequantize=True)
    back = AutoModelForCausalLM.from_pretrained(copy, quantization_config=read).state_dict()
    names = [name for name in whole if name.endswith("_proj.weight")]
    apart = [
        float((back[name].float().cpu() - whole[name].float()).norm() / whole[name].float().norm())
        for name in names
    ]
    return max(apart), len(names)


class Place:
    """The demo's fleet of one node, and its run."""

    def __init__(self, files: DemoFiles, fleet: Fleet, base: RunSpec) -> None:
        self.files, self.fleet, self.base = files, fleet, base

    def quantize(self, model: Path, method: str) -> tuple[Path, Path, float]:
        """A model in an export's place, and its copy, made by the plan's own command."""
        document = self.base.model_dump(mode="json", by_alias=True, exclude_unset=True)
        document |= {"name": method, "export": {"quantize": {"method": method}}}
        spec = RunSpec.from_document({"run": document}, Path.cwd() / "run.yml")
        plan = Client(self.files.runs).plan(self.fleet, spec)
        (command,) = plan.commands("export_quantize")
        words = [str(word) for word in command.argv]
        export = Path(words[words.index("--model") + 1])
        copy = Path(words[words.index("--output_dir") + 1])
        export.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model, export)
        env = {**os.environ, **{name: str(value) for name, value in command.env.items()}}
        env["PATH"] = ":".join([*command.path, os.environ["PATH"]])
        for folder in (command.cwd, *command.make_directories):
            Path(folder).mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        subprocess.run(words, env=env, cwd=command.cwd, check=True)
        return export, copy, time.monotonic() - began


def main() -> int:
    """Both; the last line says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    options = DemoOptions("Ada", "a team", folder, device="gpu", tuner="full", nodes=1)
    place = Place(*prepare(options))
    whole, four, seconds = place.quantize(place.files.model, "bnb")
    report: dict[str, Any] = {
        "bnb": {
            "seconds": seconds,
            "bytes": bytes_of(four) / bytes_of(whole),
            "config": json.loads((four / "config.json").read_text())["quantization_config"],
            "says": answer(four),
            "the model says": answer(whole),
        }
    }
    small = folder / "small"
    small_llama(place.files.model, small)
    whole, eight, seconds = place.quantize(small, "fp8")
    apart, count = distance(whole, eight)
    report["fp8"] = {
        "seconds": seconds,
        "bytes": bytes_of(eight) / bytes_of(whole),
        "config": json.loads((eight / "config.json").read_text())["quantization_config"],
        "apart": apart,
        "matrices": count,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    right = "Paris" in report["bnb"]["says"] and 0 < apart < NEAR
    told = {
        "bnb_of_model": f"{report['bnb']['bytes']:.3f}",
        "fp8_of_model": f"{report['fp8']['bytes']:.3f}",
        "fp8_apart": f"{apart:.4f}",
        "bnb_s": f"{report['bnb']['seconds']:.0f}",
        "fp8_s": f"{seconds:.0f}",
        "right": right,
    }
    sys.stdout.write(f"RESULT {' '.join(f'{name}={value}' for name, value in told.items())}\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
