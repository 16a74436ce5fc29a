"""What a GPU machine says of itself, without what would identify it.

usage: record.py FOLDER             writes nvidia-smi and ip output
       record.py FOLDER FILE ...    writes scrubbed copies of files (NCCL logs)
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

COMMANDS = {
    "nvidia-smi-q-x.xml": ["nvidia-smi", "-q", "-x"],
    "nvidia-smi-topo-m.txt": ["nvidia-smi", "topo", "-m"],
    "ip-j-addr.json": ["ip", "-j", "addr"],
    "ip-j-route.json": ["ip", "-j", "route"],
}
NAMING_TAGS = (
    "serial|uuid|board_id|pdi|chassis_serial_number|guid|gpu_fabric_guid|clusterUUID|cluster_uuid"
    "|peer_type_guid|host_id|chassis_physical_slot_number|rack_guid|slot_number|tray_index"
)

EXAMPLES = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737


class Scrubber:
    """Replaces names by made-up ones, the same name always by the same."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, str]] = {}

    def _alias(self, kind: str, value: str, pattern: str) -> str:
        known = self._seen.setdefault(kind, {})
        return known.setdefault(value, pattern.format(len(known) + 1))

    def __call__(self, text: str) -> str:
        """Return the text without host names, serials, UUIDs, MAC and outer IP addresses."""
        for name in {socket.gethostname(), socket.getfqdn()} - {"localhost", ""}:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "the-host", text)
        text = re.sub(
            r"^\S+?:(\d+):(\d+) (\[|NCCL)", r"the-host:\1:\2 \3", text, flags=re.MULTILINE
        )
        text = re.sub(rf"<({NAMING_TAGS})>[^<]*</\1>", r"<\1>scrubbed</\1>", text)
        text = re.sub(r"<(process_name)>[^<]*</\1>", r"<\1>scrubbed</\1>", text)
        text = re.sub(
            r"GPU-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
            lambda found: self._alias("gpu", found[0], "GPU-00000000-0000-0000-0000-{:012}"),
            text,
        )
        text = re.sub(
            r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
            lambda found: found[0] if found[0].startswith("00000000-") else "scrubbed-uuid",
            text,
        )
        text = re.sub(r"(commId|commHash|hostHash|Hash) 0x[0-9a-f]+", r"\1 0x0", text)
        text = re.sub(r"[Kk]ernel version:? \S+", "kernel version scrubbed", text)
        text = re.sub(
            r"\b(?!00:00:00:00:00:00|ff:ff:ff:ff:ff:ff)(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b",
            lambda found: self._alias("mac", found[0], "02:00:00:00:00:{:02}"),
            text,
        )
        text = re.sub(
            r"\b(?!127\.|0\.|255\.)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b(?!\.)",
            self._address,
            text,
        )
        return re.sub(r"\b(fe80|2[0-9a-f]{3}|f[cd][0-9a-f]{2})::?[0-9a-f:]+", r"\1::1", text)

    def _address(self, found: re.Match[str]) -> str:
        line = found.string[found.string.rfind("\n", 0, found.start()) + 1 : found.start()]
        if re.search(r"(version|driver|vbios|cuda|cudnn)[^,]*$", line, re.IGNORECASE):
            return found[0]  # a version of four numbers
        network, _, last = found[0].rpartition(".")
        known = self._seen.setdefault("network", {})
        alias = known.setdefault(network, EXAMPLES[min(len(known), len(EXAMPLES) - 1)])
        return f"{alias}.{last}"


def main() -> None:
    """Record, or scrub the files that are named."""
    target, scrub = Path(sys.argv[1]), Scrubber()
    target.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        path = Path(name)
        (target / path.name).write_text(scrub(path.read_text(errors="replace")), encoding="utf-8")
    if sys.argv[2:]:
        return
    for name, argv in COMMANDS.items():
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            print(f"{' '.join(argv)}: {problem}")
            continue
        (target / name).write_text(scrub(done.stdout), encoding="utf-8")


if __name__ == "__main__":
    main()
