"""As much of torchvision as torch-lucent and torch-dreams need to be imported and run.

torchvision itself needs the CUDA build of PyTorch or compiled operators that this benchmark does
not use; see install.sh.
"""

from . import models, transforms  # noqa: F401
