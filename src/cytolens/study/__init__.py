"""The whole study: the paper as stages called in order, each skipped when its result is at hand.

``Study`` and ``run`` load on first use: the settings alone are light.
"""

from typing import TYPE_CHECKING, Any

from cytolens.study.settings import StudySettings

if TYPE_CHECKING:
    from cytolens.study.study import Study, run

__all__ = ["Study", "StudySettings", "run"]


def __getattr__(name: str) -> Any:
    if name not in ("Study", "run"):
        raise AttributeError(f"module 'cytolens.study' has no attribute '{name}'")
    from cytolens.study import study

    return getattr(study, name)
