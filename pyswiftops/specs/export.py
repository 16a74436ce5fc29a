"""What the trained checkpoint becomes: its form, a quantised copy, a hub that gets it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pyswiftops.specs.document import Model
from pyswiftops.specs.texts import Word

_BITS = {"awq": (4,), "gptq": (2, 3, 4, 8), "bnb": (4, 8)}


class Quantize(Model):
    """A quantised copy of the exported model, by ms-swift."""

    method: Literal["awq", "gptq", "fp8", "bnb"] = Field(
        description="awq, gptq: calibrated on rows. fp8, bnb: from the weights alone."
    )
    bits: int | None = Field(default=None, description="Of a weight; default: 4. fp8 has none.")
    dataset: list[Word] = Field(
        default_factory=list, description="Rows for awq and gptq; default: those of the training."
    )
    samples: int | None = Field(default=None, ge=1, description="Rows of them; default: 256.")
    max_length: int | None = Field(default=None, ge=1, description="Tokens; default: 2048.")
    batch_size: int | None = Field(default=None, ge=1, description="Rows at once; default: 1.")
    group_size: int | None = Field(
        default=None, ge=-1, description="Weights that share a scale; default: 128."
    )

    @property
    def calibrated(self) -> bool:
        """Whether it looks at rows."""
        return self.method in {"awq", "gptq"}

    @model_validator(mode="after")
    def _fits_the_method(self) -> Quantize:
        allowed = _BITS.get(self.method, ())
        if self.bits is not None and self.bits not in allowed:
            known = ", ".join(map(str, allowed)) or "none"
            raise ValueError(f"bits that {self.method} has ({known}), not {self.bits}")
        # values, not fields that are set: a plan holds all fields, with their defaults
        given = self.model_dump(exclude_defaults=True, exclude={"method", "bits"})
        if given and not self.calibrated:
            raise ValueError(f"{', '.join(sorted(given))} with method awq or gptq alone")
        if self.group_size == 0:
            raise ValueError("a group_size of at least 1, or -1 for a whole column")
        return self


class Push(Model):
    """Where the exported model is uploaded; the hub's token is a secret of the caller."""

    hub: Literal["modelscope", "huggingface"]
    model: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="ORGANISATION/NAME there.",
    )
    private: bool = Field(default=True, description="Only the organisation can see it.")
    what: Literal["export", "quantized"] = Field(
        default="export", description="The export itself, or its quantised copy."
    )
    message: Word | None = Field(default=None, description="Of the commit.")


class Export(Model):
    """What the trained checkpoint becomes."""

    form: Literal["hf", "mcore", "adapters"] = Field(
        default="hf",
        description="hf, mcore: whole weights, LoRA merged. adapters: those of LoRA alone.",
    )
    test_precision: bool = Field(
        default=False, description="Compare both models' outputs; needs memory for both."
    )
    gpus: Literal["one", "all"] = Field(
        default="one", description="Of the first node; all where one is too small."
    )
    proof: Literal["sampled", "full", "off"] = Field(
        default="sampled", description="Which exported tensors are held against the checkpoint."
    )
    quantize: Quantize | None = Field(default=None, description="A quantised copy beside it.")
    push: Push | None = Field(default=None, description="Upload to a hub.")

    @model_validator(mode="after")
    def _can_be_taken_further(self) -> Export:
        if self.quantize is not None and self.form != "hf":
            raise ValueError("export.quantize with export.form hf alone")
        if self.push is not None and self.form == "mcore":
            raise ValueError("export.push with export.form hf or adapters")
        if self.push is not None and self.push.what == "quantized" and self.quantize is None:
            raise ValueError("export.quantize where export.push.what is quantized")
        return self
