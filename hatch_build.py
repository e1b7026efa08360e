"""Puts the pages of the studio into the wheel: builds them, or says why it could not."""

from __future__ import annotations

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StudioBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds before the files of a wheel or of a source distribution are gathered."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages; an editable install builds them on first use instead."""
        del build_data
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from pellucid.core.errors import PellucidError
        from pellucid.serving import built

        try:
            built.pages()
        except PellucidError as error:
            self.app.display_warning(f"Without the pages of the studio: {error}")
