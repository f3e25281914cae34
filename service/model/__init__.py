"""The model itself: loading, preprocessing, the runner over transformers' modules, the mask decoder.

Implements what ``engine`` asks for.
"""

import logging

# transformers imports torchao where it is installed, which tells of every CUDA library that it does not need here.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
