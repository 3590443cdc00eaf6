"""The whole study: the paper as stages called in order, each skipped when its result is at hand.

``Study``, ``run``, ``place`` and ``export`` load on first use: the settings alone are light.
"""

from typing import TYPE_CHECKING, Any

from cytolens.study.settings import StudySettings

if TYPE_CHECKING:
    from cytolens.study.exporting import export
    from cytolens.study.placing import place
    from cytolens.study.study import Study, run

__all__ = ["Study", "StudySettings", "export", "place", "run"]


def __getattr__(name: str) -> Any:
    if name == "place":
        from cytolens.study.placing import place

        return place
    if name == "export":
        from cytolens.study.exporting import export

        return export
    if name not in ("Study", "run"):
        raise AttributeError(f"module 'cytolens.study' has no attribute '{name}'")
    from cytolens.study import study

    return getattr(study, name)
