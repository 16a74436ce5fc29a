"""Commands of one release line in another: every flag is accounted for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pyswiftops import matrix
from pyswiftops.errors import BadInputError, MatrixError
from pyswiftops.translate import Translation, translate
from pyswiftops.translate.shell import statements

OLD = """
NPROC_PER_NODE=2 megatron sft --load M-mcore --save out --max_epochs 1 --save_interval 100 \\
  --train_type lora --num_workers 4 --no_gradient_accumulation_fusion true --lr 1e-5 \\
  --save_retain_interval 200 --use_flash_attn true --adapter_loa A
"""


def kinds(found: Translation, kind: str) -> dict[str, str]:
    return {note.flag: note.text for note in found.notes if note.kind == kind}


def test_a_command_of_3_becomes_one_of_4() -> None:
    (found,) = translate(OLD, "4.6")
    assert found.source == "3.12"
    assert found.env == {"NPROC_PER_NODE": "2"}
    assert found.flags == {
        "mcore_model": ["M-mcore"],
        "output_dir": ["out"],
        "num_train_epochs": ["1"],
        "save_steps": ["100"],
        "tuner_type": ["lora"],
        "dataloader_num_workers": ["4"],
        "gradient_accumulation_fusion": ["false"],
        "lr": ["1e-5"],
        "mcore_adapter": ["A"],
    }
    assert "save_total_limit" in kinds(found, "dropped")["save_retain_interval"]
    assert "attention_backend flash" in kinds(found, "dropped")["use_flash_attn"]
    assert "--adapter_load" in kinds(found, "prefix")["adapter_loa"]
    assert "was False, is True" in kinds(found, "default")["finetune"]


def test_and_back_again() -> None:
    (found,) = translate(OLD, "4.6")
    (back,) = translate(found.text(), "3.12", "4.6")
    assert back.flags == {
        "load": ["M-mcore"],
        "save": ["out"],
        "max_epochs": ["1"],
        "save_interval": ["100"],
        "train_type": ["lora"],
        "num_workers": ["4"],
        "no_gradient_accumulation_fusion": ["true"],
        "lr": ["1e-5"],
        "adapter_load": ["A"],
    }


def test_training_with_megatron_in_2_6_has_a_verb_of_its_own_now() -> None:
    text = """NNODES=2 NPROC_PER_NODE=8 swift sft --resume_from_checkpoint q-tp2 --sft_type full \\
      --dataset swift-mix:sharegpt#20 --learning_rate 2e-6 --output_dir output \\
      --train_backend megatron"""
    (found,) = translate(text, "4.6", "2.6")
    assert found.verb == "megatron sft"
    assert found.flags == {
        "mcore_model": ["q-tp2"],
        "tuner_type": ["full"],
        "dataset": ["swift-mix:sharegpt#20"],
        "lr": ["2e-6"],
        "output_dir": ["output"],
    }


def test_values_that_are_called_otherwise() -> None:
    (found,) = translate("swift infer --model m --infer_backend pt --merge_lora true", "3.6", "4.6")
    assert found.flags["infer_backend"] == ["pt"]
    (found,) = translate("swift infer --model m --infer_backend transformers", "3.6", "4.6")
    assert found.flags["infer_backend"] == ["pt"]
    (found,) = translate("swift export --dtype bf16 --to_megatron true --tp 2", "4.6", "2.6")
    assert found.flags["torch_dtype"] == ["bfloat16"]
    assert found.flags["to_mcore"] == ["true"]
    assert "tp" in kinds(found, "dropped")


def test_torchrun_and_the_script_itself_are_known() -> None:
    text = "torchrun --nnodes 2 --nproc-per-node=8 /x/swift/cli/_megatron/pt.py --lr 1"
    (found,) = translate(text, "4.6")
    assert found.verb == "megatron pt"
    assert found.env == {"NNODES": "2", "NPROC_PER_NODE": "8"}


def test_a_launcher_with_a_list_of_addresses_and_its_password() -> None:
    text = (
        "bash sft.sh --ips 10.0.8.7,10.0.8.8 --ssh_password S3cret --save o --micro_bs 8 --epochs 1"
    )
    (found,) = translate(text, "4.6")
    assert found.flags == {
        "output_dir": ["o"],
        "micro_batch_size": ["8"],
        "num_train_epochs": ["1"],
    }
    assert "S3cret" not in repr(found)
    assert set(kinds(found, "dropped")) == {"ips", "ssh_password"}


def test_a_name_that_changed_its_meaning_is_told() -> None:
    text = "megatron sft --agent_template {} --lr 1"
    (found,) = translate(text.format("glm4"), "4.6", "3.6")
    assert "GLM-4-0414" in kinds(found, "note")["agent_template"]
    (found,) = translate(text.format("hermes"), "4.6", "3.6")
    assert "agent_template" not in kinds(found, "note")
    (found,) = translate(text.format("glm4"), "3.12", "3.6")
    assert "agent_template" not in kinds(found, "note")
    (found,) = translate("swift infer --model_type qwen2-7b", "4.6", "2.6")
    assert "--model" in kinds(found, "note")["model_type"]


def test_what_only_a_shell_knows_is_left_to_it() -> None:
    (found,) = translate('megatron sft --save "out/$1 x" --lr 1', "4.6")
    assert '--output_dir "out/$1 x"' in found.text()


def test_other_commands_of_a_script_are_passed_over(tmp_path: Path) -> None:
    planted = tmp_path / "file"
    planted.touch()
    (found,) = translate(f"rm -rf {planted}; swift deploy --model m; reboot", "4.6")
    assert found.verb == "swift deploy"
    assert planted.exists()


@pytest.mark.parametrize(
    ("text", "to", "expected"),
    [
        ("rm -rf /nowhere", "4.6", "a command swift"),
        ("", "4.6", "a command swift"),
        ("python train.py --lr 1", "4.6", "a command swift"),
        ("swift nonsense --a 1", "4.6", "a verb of ms-swift"),
        ("megatron export --to_hf true", "3.6", "lines that have it: 3.10, 3.11"),
        ("megatron sft --lr 1", "2.6", "a verb that line 2.6 has"),
    ],
)
def test_what_cannot_be_translated_is_refused(text: str, to: str, expected: str) -> None:
    with pytest.raises(BadInputError, match=expected):
        translate(text, to)


def test_an_unknown_line_is_refused() -> None:
    with pytest.raises(MatrixError, match="line: one of"):
        translate("swift infer", "9.9")


@pytest.mark.parametrize(
    ("source", "to"), list(itertools.permutations(("3.6", "3.12", "4.0", "4.6"), 2))
)
def test_every_flag_that_is_written_is_one_of_the_target(source: str, to: str) -> None:
    for verb, known in matrix.typed_flags(source).items():
        if verb not in matrix.typed_flags(to):
            continue
        text = f"{verb} " + " ".join(f"--{name} true" for name in known)
        (found,) = translate(text, to, source)
        assert set(found.flags) <= set(matrix.typed_flags(to)[verb])
        told = {note.flag for note in found.notes}
        assert set(known) - set(found.flags) <= told, "a flag vanished without a word"


def test_the_command_can_be_typed() -> None:
    (found,) = translate("A='1 2' swift sft --system 'it''s' --dataset a b", "4.6")
    (again,) = statements(found.text())
    assert again.words == found.argv()
    assert again.env == found.env
