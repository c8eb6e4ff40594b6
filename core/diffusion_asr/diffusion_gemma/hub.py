"""Model files from a hub or a local folder: pinned, offline if wished, and refused before any work starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_asr.errors import ModelError, ToolkitMissingError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Hub:
    """How to reach a hub.

    Attributes:
        offline: Use only what was fetched before.
        endpoint: Another server than huggingface.co.
        cache: Another folder than Hugging Face's.
    """

    offline: bool = False
    endpoint: str | None = None
    cache: str | None = None

    def folder(self, name: str, patterns: Sequence[str]) -> Path:
        """The folder of ``name``: itself a folder, or ``organisation/model`` with ``@revision`` to pin it.

        Files that match ``patterns`` are fetched; code is never among them.

        Raises:
            ModelError: Not there, not allowed, not reachable; the message says what to do.
            ToolkitMissingError: huggingface_hub is not installed.
        """
        if Path(name).is_dir():
            return Path(name)
        if not HUB_NAME.fullmatch(name):
            raise ModelError(f"no model {name!r}: neither a folder nor an organisation/model of a hub")
        repository, _, revision = name.partition("@")
        return self._fetched(repository, revision or None, patterns)

    def _fetched(self, repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import (
                GatedRepoError,
                HfHubHTTPError,
                LocalEntryNotFoundError,
                RepositoryNotFoundError,
                RevisionNotFoundError,
            )
        except ImportError as error:
            raise ToolkitMissingError(
                f"huggingface_hub cannot be imported ({error}): pip install 'diffusion-asr[gemma]'"
            ) from error
        pinned = f"{repository}@{revision}" if revision else repository
        try:
            return Path(
                HfApi(endpoint=self.endpoint).snapshot_download(
                    repository, revision=revision, allow_patterns=list(patterns),
                    local_files_only=self.offline, cache_dir=self.cache,
                )
            )  # fmt: skip
        except GatedRepoError as error:
            raise ModelError(
                f"{repository} is gated: accept its terms at https://huggingface.co/{repository}, then run "
                "`hf auth login` (or set HF_TOKEN), or give a folder that holds it"
            ) from error
        except RevisionNotFoundError as error:
            raise ModelError(f"{repository} has no revision {revision!r}") from error
        except RepositoryNotFoundError as error:
            raise ModelError(
                f"no model {repository!r}: neither a folder here nor on the hub (a private one needs "
                "`hf auth login`)"
            ) from error
        except LocalEntryNotFoundError as error:
            how = "and offline is set" if self.offline else "and the hub cannot be reached"
            raise ModelError(
                f"{pinned} was not fetched before {how}: run once with a connection, or give a folder"
            ) from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ModelError(f"{pinned} cannot be fetched: {error}") from error
