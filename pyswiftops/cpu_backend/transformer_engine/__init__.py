"""Plain-PyTorch stand-ins for the part of Transformer Engine that Megatron touches.

megatron-core, mcore-bridge and ms-swift import Transformer Engine unconditionally, and
build every linear layer, norm and attention from it. ``registry`` lays the stand-ins out
under the names where upstream looks them up.
"""

from __future__ import annotations
