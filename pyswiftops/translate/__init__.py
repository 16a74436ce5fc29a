"""Commands of one release line of ms-swift -> those of another. Nothing of a script is executed."""

from pyswiftops.translate.command import Note, Translation, translate

__all__ = ["Note", "Translation", "translate"]
