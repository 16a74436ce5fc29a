"""Torch's compiler is imported before anything of Ansible's.

``ansible.module_utils.basic`` patches ``sys.intern``, which ``torch._dynamo`` then takes for a
mistake; both meet only in a test process.
"""

from __future__ import annotations

import torch._dynamo  # noqa: F401 see above
