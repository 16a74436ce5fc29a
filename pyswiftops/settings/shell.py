"""Zsh on nodes: the machine's zshrc loads it for the users named; theirs stays as it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pyswiftops.errors import BadInputError
from pyswiftops.specs.document import validate
from pyswiftops.specs.hosts import DevShell

PACKAGES = ("zsh", "zsh-autosuggestions", "zsh-syntax-highlighting")
ZSHRC = "/etc/zsh/zshrc"  # read before ~/.zshrc, which may overrule it
_PLUGINS = "/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh"
_HIGHLIGHTING = "/usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh"
_HEAD = "# Made by pyswiftops; changes are lost.\n"


def shell_part(
    settings: Mapping[str, Any], folder: str = "/etc/swiftops", oh_my_zsh: str = "/opt/oh-my-zsh"
) -> dict[str, list[dict[str, Any]]]:
    """Packages and files of a node, as the module ``converge`` takes them.

    Args:
        settings: The keys of the fleet file's ``dev_shell``; empty takes the files away.
        folder: Where our files on the node lie.
        oh_my_zsh: Where the role unpacks oh-my-zsh.
    """
    ours, path = f"{folder}/zshrc", shlex.quote(f"{folder}/zshrc")
    line = f"[[ -r {path} ]] && source {path}"
    mark = f"{oh_my_zsh}.sha256"  # beside it, and written after it: what lies there is whole
    away = {
        "id": "dev_shell.no_oh_my_zsh",
        "after": ["dev_shell.oh_my_zsh_gone"],
        "argv": ["rm", "-r", "--one-file-system", "--", oh_my_zsh],
        "remedy": f"rm -r {oh_my_zsh}",
    }
    gone = {"id": "dev_shell.oh_my_zsh_gone", "type": "absent", "path": mark}
    if not settings:
        return {
            "resources": [
                {"id": "dev_shell.load", "type": "no_lines", "path": ZSHRC, "lines": [line]},
                {"id": "dev_shell.zshrc", "type": "absent", "path": ours},
                gone,
            ],
            "reactions": [away],
        }
    shell = validate(DevShell, settings, "dev_shell", BadInputError)
    text = zshrc(shell, oh_my_zsh)
    checked = [
        {
            "id": "dev_shell.loads",
            "argv": ["zsh", "-n", ours],
            "remedy": "look at the file with: zsh -n " + ours,
        }
    ]
    return {
        "resources": [
            {"id": "dev_shell.packages", "type": "packages", "lines": list(PACKAGES)},
            {"id": "dev_shell.folder", "type": "directory", "path": folder, "only_new": True},
            {
                "id": "dev_shell.zshrc",
                "type": "file",
                "path": ours,
                "content": text,
                "mode": "0644",
            },
            {
                "id": "dev_shell.load",
                "type": "lines",
                "path": ZSHRC,
                "lines": [line],
                "only_new": True,
            },
            *([] if shell.oh_my_zsh else [gone]),
        ],
        "reactions": [] if shell.oh_my_zsh else [away],
        "checks": checked,
    }


def zshrc(shell: DevShell, oh_my_zsh: str) -> str:
    """What zsh reads for the users named.

    The two plugins are loaded before the first prompt, after ``~/.zshrc``: highlighting has to be
    the last, and what a user loads himself is not loaded again.
    """
    users = " | ".join(shlex.quote(user) for user in shell.users)
    home = shlex.quote(oh_my_zsh)
    framework = [
        'if [[ -z "$ZSH" ]] && ! grep -qs oh-my-zsh.sh "${ZDOTDIR:-$HOME}/.zshrc"; then',
        f"    export ZSH={home}",
        '    ZSH_CACHE_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/oh-my-zsh"',
        f"    ZSH_THEME={shlex.quote(shell.theme)}",
        f"    plugins=({' '.join(map(shlex.quote, shell.plugins))})",
        "    zstyle ':omz:update' mode disabled",
        "    DISABLE_AUTO_UPDATE=true ZSH_DISABLE_COMPFIX=true",
        '    [[ -r "$ZSH/oh-my-zsh.sh" ]] && source "$ZSH/oh-my-zsh.sh"',
        "fi",
    ]
    lines = [
        f'case "$USERNAME" in ({users}) ;; (*) return ;; esac',
        "zsh-newuser-install() { : }",
        *(framework if shell.oh_my_zsh else ["autoload -Uz compinit && compinit -u"]),
        "swiftops_plugins() {",
        "    add-zsh-hook -d precmd swiftops_plugins",
        f"    (( $+functions[_zsh_autosuggest_start] )) || source {_PLUGINS}",
        f"    (( $+functions[_zsh_highlight] )) || source {_HIGHLIGHTING}",
        # these hook themselves into precmd, which is running: they would wait for a second prompt
        "    _zsh_autosuggest_start 2> /dev/null",
        "}",
        "autoload -Uz add-zsh-hook && add-zsh-hook precmd swiftops_plugins",
    ]
    return _HEAD + "".join(f"{line}\n" for line in lines)
