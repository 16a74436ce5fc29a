"""The program of a gather: ``python -m pyswiftops.checkpoints.receive REQUEST``.

It runs on the node that the files go to, as a job, and does the work of the collection's module
utilities; progress is told on standard output, an error in one line of standard error. Standard
library only: nodes have pyswiftops without its dependencies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyswiftops.content import collections_path

EXIT_FAILED = 1


def main(argv: list[str]) -> int:
    """Gather what the request file asks for; the answer lies beside it then (``.answer``).

    Args:
        argv: The path of the request, JSON (``module_utils/checkpoints/request.py``), and
            ``--probe`` where only the rate is to be found out.

    Returns:
        0, or 1 where it cannot be done.
    """
    sys.path.insert(0, str(collections_path()))
    from ansible_collections.pyswiftops.fleet.plugins.module_utils import (  # noqa: PLC0415
        torch_dist_index,
        transfer,
    )
    from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import (  # noqa: PLC0415
        errors,
        gather,
        layout,
        request,
    )

    file = Path(argv[0])
    try:
        asked = request.Request.from_dict(json.loads(file.read_text("utf-8")))
        if "--probe" in argv[1:]:
            answer = gather.probe(asked)
            file.with_suffix(".answer").write_text(json.dumps(answer), encoding="utf-8")
            return 0
        answer = gather.gather(asked, _say)
    except (
        errors.GatherError,
        torch_dist_index.TorchDistError,
        transfer.PullError,
        OSError,
    ) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return EXIT_FAILED
    answer["stands"] = layout.scan([answer["dest"]], settle=0)["checkpoints"]
    file.with_suffix(".answer").write_text(json.dumps(answer), encoding="utf-8")
    _say(
        f"gathered {answer['files']} files, {answer['bytes'] / 1e9:.2f} GB of which "
        f"{answer['moved'] / 1e9:.2f} GB were sent, in {answer['seconds']:.1f} s: {answer['dest']}"
    )
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
